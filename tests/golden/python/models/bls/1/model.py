"""Makes requests of other models: each `case_…` tells what came back, or what was raised."""

import numpy as np
import triton_python_backend_utils as pb_utils


def ask(model="identity", values=(1, 2), datatype=np.float32, name="IN", **more):
    tensor = pb_utils.Tensor(name, np.array(values, datatype))
    more = {"requested_output_names": ["OUT"], **more}
    return pb_utils.InferenceRequest(model_name=model, inputs=[tensor], **more)


def seen(response):
    """A response as text."""
    if response.has_error():
        return "error %d: %s" % (response.error().code(), response.error().message())
    return repr([(t.name(), t.as_numpy().tolist()) for t in response.output_tensors()])


def attempt(function, *arguments, **more):
    try:
        return function(*arguments, **more)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)


def one(**more):
    return attempt(lambda: seen(ask(**more).exec()))


class TritonPythonModel:
    def initialize(self, args):
        self.in_initialize = attempt(lambda: seen(ask().exec()))

    def execute(self, requests):
        case = pb_utils.get_input_tensor_by_name(requests[0], "CASE").as_numpy().item()
        said = getattr(self, "case_" + case.decode())(requests[0])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(said, np.object_))])]

    def case_in_initialize(self, r):
        return [self.in_initialize]

    def case_good(self, r):
        return [one()]

    def case_version(self, r):
        return [one(model_version=version) for version in (1, -1)]

    def case_unknown_version(self, r):
        return [one(model_version=version) for version in (7, 0)]

    def case_unknown_model(self, r):
        return [one(model="nobody")]

    def case_no_model(self, r):
        return [one(model="")]

    def case_unknown_input(self, r):
        return [one(name="X")]

    def case_wrong_datatype(self, r):
        return [one(datatype=np.int32)]

    def case_wrong_shape(self, r):
        return [one(values=(1, 2, 3))]

    def case_no_inputs(self, r):
        made = pb_utils.InferenceRequest(
            model_name="identity", inputs=[], requested_output_names=["OUT"]
        )
        return [attempt(lambda: seen(made.exec()))]

    def case_unknown_output(self, r):
        return [one(requested_output_names=["X"])]

    def case_no_outputs(self, r):
        return [one(requested_output_names=[])]

    def case_error_of_the_model(self, r):
        return [one(values=(-1, 2))]

    def case_exception_of_the_model(self, r):
        tensor = pb_utils.Tensor("CASE", np.array([[b"raises"]], np.object_))
        made = pb_utils.InferenceRequest(
            model_name="returns", inputs=[tensor], requested_output_names=["OUT"]
        )
        return [attempt(lambda: seen(made.exec()))]

    def case_decoupled_without_saying_so(self, r):
        return [one(model="many")]

    def case_decoupled(self, r):
        said = []
        for count in (0, 1, 2, -1, -2):
            answers = ask("many", (count, 0)).exec(decoupled=True)
            said.append(repr([seen(answer) for answer in answers]))
        return said

    def case_decoupled_of_a_plain_model(self, r):
        return [attempt(lambda: repr([seen(a) for a in ask().exec(decoupled=True)]))]

    def case_decoupled_of_an_unknown_model(self, r):
        return [attempt(lambda: repr([seen(a) for a in ask("nobody").exec(decoupled=True)]))]

    def case_an_iterator_twice(self, r):
        answers = ask("many", (2, 0)).exec(decoupled=True)
        return [repr([seen(answer) for answer in answers]) for _ in range(2)]

    def case_the_same_request_twice(self, r):
        made = ask()
        return [attempt(lambda: seen(made.exec())) for _ in range(2)]

    def case_async_in_a_plain_execute(self, r):
        return [attempt(lambda: str(type(ask().async_exec()).__name__))]

    def case_sequence_without_an_id(self, r):
        return [one(flags=pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START)]

    def case_timeout(self, r):
        return [one(timeout=60_000_000)]

    def case_preferred_memory(self, r):
        memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)
        return [one(preferred_memory=memory)]

    def case_trace(self, r):
        return [one(trace=r.trace())]

    def case_parameters(self, r):
        return [one(parameters={"a": 1, "b": "x", "c": True})]
