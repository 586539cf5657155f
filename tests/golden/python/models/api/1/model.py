"""Uses the module `triton_python_backend_utils`: each `case_…` tells what it was given back, or
what was raised."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

CONFIG = {
    "name": "m",
    "max_batch_size": 4,
    "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [2]}],
    "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [2]}],
}


def T(*arguments):
    # Looked up late: Triton imports a model first where the module has no tensors.
    return pb_utils.Tensor(*arguments)


def from_dlpack(*arguments):
    return pb_utils.Tensor.from_dlpack("X", *arguments)


def attempt(function, *arguments, **more):
    """The value of a call as text, or its exception."""
    try:
        value = function(*arguments, **more)
    except TypeError:
        return "TypeError"  # Its text is that of whatever binds Python to C++, or of Python.
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)
    return "%s: %r" % (type(value).__name__, value)


def completed(*steps, **config):
    """A configuration after some of `ModelConfig`'s methods, or the exception."""

    def complete():
        made = pb_utils.ModelConfig(json.dumps({**CONFIG, **config}))
        for method, argument in steps:
            getattr(made, method)(*argument)
        return made.as_dict()

    return attempt(complete)


class TritonPythonModel:
    def execute(self, requests):
        case = pb_utils.get_input_tensor_by_name(requests[0], "CASE").as_numpy().item()
        said = getattr(self, "case_" + case.decode())(requests[0])
        return [pb_utils.InferenceResponse([T("OUT", np.array(said, np.object_))])]

    def case_constants(self, r):
        names = [name for name in dir(pb_utils) if name.startswith("TRITONSERVER_RE")]
        E, F = pb_utils.TritonError, pb_utils.MetricFamily
        codes = ["UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE"]
        codes += ["UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED"]
        values = [(name, getattr(pb_utils, name)) for name in names]
        values += [(name, int(getattr(E, name))) for name in codes]
        values += [(name, int(getattr(F, name))) for name in ("COUNTER", "GAUGE", "HISTOGRAM")]
        return ["%s = %s" % value for value in values if isinstance(value[1], int)]

    def case_model_dir(self, r):
        return [attempt(pb_utils.get_model_dir)]

    def case_datatypes(self, r):
        kinds = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
        kinds += ["float16", "float32", "float64", "object_", "bytes_"]
        said = ["%s %s" % (k, pb_utils.numpy_to_triton_type(np.dtype(k[:-1] if k.endswith("_") else k).type)) for k in kinds]
        said += ["%d %s" % (n, np.dtype(pb_utils.triton_to_numpy_type(n))) for n in range(1, 14)]
        names = ["BOOL", "UINT8", "UINT64", "INT32", "FP16", "FP32", "FP64", "STRING"]
        said += ["%s %s" % (n, np.dtype(pb_utils.triton_string_to_numpy("TYPE_" + n))) for n in names]
        return said

    def case_unknown_datatypes(self, r):
        return [
            attempt(pb_utils.triton_to_numpy_type, 0),
            attempt(pb_utils.triton_to_numpy_type, 99),
            attempt(pb_utils.numpy_to_triton_type, np.complex64),
            attempt(pb_utils.triton_string_to_numpy, "FP32"),
            attempt(pb_utils.triton_string_to_numpy, "TYPE_BF16"),
        ]

    def case_strings(self, r):
        pack, unpack = pb_utils.serialize_byte_tensor, pb_utils.deserialize_bytes_tensor
        both = np.array([["a", b"\0b"], [7, ""]], np.object_)
        packed = pack(both)
        return [
            attempt(pack, both),
            attempt(lambda: unpack(packed).tolist()),
            attempt(lambda: (unpack(packed).dtype, unpack(packed).shape)),
            attempt(pack, np.array([], np.object_)),
            attempt(pack, np.array([b"abc", b"d"])),
            attempt(pack, np.array([1, 2])),
            attempt(lambda: unpack(b"").tolist()),
            attempt(unpack, b"\5\0\0\0ab").split(":")[0],
            attempt(unpack, b"\1").split(":")[0],
        ]

    def case_tensors(self, r):
        said = []
        for array in (
            np.array(7, np.float32), np.zeros((0, 3), np.int8), np.ones(2, np.bool_),
            np.ones((2, 3), np.float64).T, np.array([b"a"]),
            np.array([b"a", "b"], np.object_), np.float32([[1, 2]])[:, ::-1],
        ):
            made = T("X", array)
            said.append(attempt(lambda: (made.name(), made.is_cpu())))
            said.append(attempt(lambda: (str(made.as_numpy().dtype), made.as_numpy().tolist())))
        return said

    def case_unicode_of_numpy(self, r):
        return [attempt(lambda: T("X", np.array(["a"])).as_numpy().tolist())]

    def case_wrong_tensors(self, r):
        wrong = [np.complex64([1]), np.array(["2020-01-01"], "M8[D]"), np.float32(7), [1], 7, None, "x"]
        wrong.append(np.array([(1, 2)], "i4,i4"))
        said = [attempt(T, "X", one) for one in wrong]
        said.append(attempt(T, 7, np.zeros(1)))
        said.append(attempt(T, "X"))
        return said

    def case_dlpack_strings(self, r):
        return [attempt(lambda: T("A", np.array([b"a"], np.object_)).to_dlpack())]

    def case_dlpack_booleans(self, r):
        made = T("A", np.ones(2, np.bool_))
        return [attempt(lambda: str(from_dlpack(made).as_numpy().dtype))]

    def case_dlpack_wrong(self, r):
        return [attempt(from_dlpack, one) for one in ("x", 7, [1, 2], None)]

    def case_array_changed_behind_a_tensor(self, r):
        array = np.float32([1, 2])
        made = T("A", array)
        array[0] = 9
        return [attempt(lambda: made.as_numpy().tolist())]

    def case_requests(self, r):
        ask = pb_utils.InferenceRequest
        tensor = T("IN", np.zeros(1, np.float32))
        good = dict(model_name="m", requested_output_names=["OUT"], inputs=[tensor])

        def seen(**more):
            made = ask(**{**good, **more})
            return (
                made.request_id(), made.correlation_id(), made.flags(), made.timeout(),
                list(made.requested_output_names()), [t.name() for t in made.inputs()],
                made.parameters(),
            )

        parameters = {"a": 1, "b": True, "c": "x"}
        return [
            attempt(seen),
            attempt(seen, request_id="seven", correlation_id=7, flags=3, timeout=9, model_version=2),
            attempt(seen, correlation_id="seven"),
            attempt(lambda: json.loads(seen(parameters=parameters)[-1])),
            attempt(seen, model_name=None),
            attempt(seen, inputs=["x"]),
            attempt(seen, inputs=tensor),
            attempt(seen, requested_output_names="OUT"),
            attempt(seen, requested_output_names=[7]),
            attempt(seen, parameters={"a": 1.5}),
            attempt(seen, parameters={"a": None}),
            attempt(seen, parameters={"a": [1]}),
            attempt(seen, parameters={7: "x"}),
            attempt(seen, flags="x"),
            attempt(seen, timeout=-1),
        ]

    def case_set_flags(self, r):
        made = pb_utils.InferenceRequest(
            model_name="m", requested_output_names=["OUT"], inputs=[T("IN", np.zeros(1))]
        )
        made.set_flags(3)
        return [attempt(made.flags)]

    def case_release_flags(self, r):
        return ["%d: %s" % (flags, attempt(r.set_release_flags, flags)) for flags in (0, 7, 1)]

    def case_responses(self, r):
        answer, E = pb_utils.InferenceResponse, pb_utils.TritonError
        tensor = T("OUT", np.zeros(1))

        def seen(*arguments, **more):
            made = answer(*arguments, **more)
            error = made.error()
            return (
                [t.name() for t in made.output_tensors()], made.has_error(),
                error and (error.message(), int(error.code())),
            )

        return [
            attempt(seen, [tensor]),
            attempt(seen, output_tensors=[tensor]),
            attempt(seen),
            attempt(seen, [tensor], E("boom")),
            attempt(seen, [], E("boom", E.NOT_FOUND)),
            attempt(seen, error=E("boom")),
        ]

    def case_errors(self, r):
        E = pb_utils.TritonError
        return [
            attempt(lambda: (E("boom").message(), int(E("boom").code()))),
            attempt(lambda: (E(message="x", code=E.CANCELLED).message(), int(E("x", E.CANCELLED).code()))),
            attempt(E),
            attempt(E, 7),
        ]

    def case_model_exception(self, r):
        E = pb_utils.TritonModelException
        return [str(E("x")), str(issubclass(E, Exception)), attempt(lambda: E())]

    def case_configurations(self, r):
        get_in, get_out = pb_utils.get_input_config_by_name, pb_utils.get_output_config_by_name
        decoupled = pb_utils.using_decoupled_model_transaction_policy
        return [
            attempt(get_in, CONFIG, "IN"), attempt(get_in, CONFIG, "X"), attempt(get_in, {}, "IN"),
            attempt(get_out, CONFIG, "OUT"), attempt(get_out, CONFIG, "X"), attempt(decoupled, CONFIG),
            attempt(decoupled, {"model_transaction_policy": {"decoupled": True}}),
            attempt(decoupled, {"model_transaction_policy": {"decoupled": False}}),
        ]

    def case_tensors_by_name(self, r):
        answer = pb_utils.InferenceResponse([T("OUT", np.zeros(1))])
        return [
            attempt(lambda: pb_utils.get_input_tensor_by_name(r, "CASE").name()),
            attempt(pb_utils.get_input_tensor_by_name, r, "X"),
            attempt(lambda: pb_utils.get_output_tensor_by_name(answer, "OUT").name()),
            attempt(pb_utils.get_output_tensor_by_name, answer, "X"),
        ]

    def case_set_max_batch_size(self, r):
        return [completed(("set_max_batch_size", [size])) for size in (0, 2, 4, 8)] + [
            completed(("set_max_batch_size", [size]), max_batch_size=0) for size in (0, 8)
        ]

    def case_set_dynamic_batching(self, r):
        turn_on = ("set_dynamic_batching", [])
        return [
            completed(turn_on),
            completed(turn_on, dynamic_batching={"preferred_batch_size": [2]}),
            completed(turn_on, sequence_batching={}),
            completed(turn_on, ensemble_scheduling={}),
        ]

    def case_add_input(self, r):
        return self.adds("add_input", "IN") + [
            completed(("add_input", [{"name": "IN", "data_type": "TYPE_FP32", "dims": [2], "optional": True}])),
            completed(("add_input", [{"name": "B", "data_type": "TYPE_FP32", "dims": [2], "optional": True}])),
            completed(
                ("add_input", [{"name": "B", "data_type": "TYPE_FP32", "dims": [2], "optional": True}]),
                ("add_input", [{"name": "B", "data_type": "TYPE_FP32", "dims": [2], "optional": False}]),
            ),
        ]

    def case_add_output(self, r):
        return self.adds("add_output", "OUT") + [
            completed(("add_output", [{"name": "B", "data_type": "TYPE_FP32", "dims": [2], "optional": True}])),
        ]

    def adds(self, method, name):
        good = {"name": name, "data_type": "TYPE_FP32", "dims": [2]}
        lacking = [{k: v for k, v in good.items() if k != left_out} for left_out in good]
        others = [good, {**good, "name": "B"}, {**good, "dims": [3]}, {**good, "data_type": "TYPE_INT32"}]
        others += [{**good, "label": "x"}, {**good, "data_type": "TYPE_NONSENSE", "name": "B"}, {}]
        return [completed((method, [one])) for one in lacking + others]

    def case_add_to_what_is_not_finished(self, r):
        open_entry = {"name": "IN", "data_type": "TYPE_INVALID", "dims": []}
        good = {"name": "IN", "data_type": "TYPE_INT8", "dims": [-1]}
        return [completed(("add_input", [good]), input=[open_entry])]

    def case_set_model_transaction_policy(self, r):
        do = "set_model_transaction_policy"
        there = {"model_transaction_policy": {"decoupled": False}}
        return [
            completed((do, [{"decoupled": True}])), completed((do, [{"decoupled": True}]), **there),
            completed((do, [{"decoupled": False}]), **there), completed((do, [{}])),
            completed((do, [{"other": 1}])),
        ]

    def case_preferred_memory(self, r):
        P = pb_utils.PreferredMemory
        return [
            attempt(lambda: P(pb_utils.TRITONSERVER_MEMORY_CPU) is not None),
            attempt(lambda: P(pb_utils.TRITONSERVER_MEMORY_CPU, 1) is not None),
            attempt(lambda: P(pb_utils.TRITONSERVER_MEMORY_GPU, 0) is not None),
            attempt(P, "x"),
        ]

    def case_trace(self, r):
        return [attempt(lambda: r.trace().get_context())]

    def case_logger(self, r):
        L = pb_utils.Logger
        return [
            attempt(L.log, "said", L.INFO), attempt(L.log, "said"), attempt(L.log_info, "said"),
            attempt(L.log_warn, "said"), attempt(L.log_error, "said"), attempt(L.log_verbose, "said"),
            attempt(L.log, "said", L.LogLevel.WARNING), attempt(L.log, "said", 99),
        ]

    def case_metrics(self, r):
        F, said = pb_utils.MetricFamily, []
        counter = F(name="golden_count", description="d", kind=F.COUNTER)
        gauge = F("golden_gauge", "d", F.GAUGE)
        one = counter.Metric(labels={"a": "b"})
        said.append(attempt(one.increment, 2))
        said.append(attempt(one.value))
        said.append(attempt(one.increment, -1))
        said.append(attempt(one.set, 1))
        said.append(attempt(lambda: type(counter.Metric({"a": "b"})).__name__))
        level = gauge.Metric()
        for do, value in ((level.set, 3), (level.increment, -1), (level.increment, 0.5)):
            said.append(attempt(do, value))
            said.append(attempt(level.value))
        said.append(attempt(F, "golden_count", "d", F.GAUGE))
        said.append(attempt(F, "golden count", "d", F.GAUGE))
        said.append(attempt(counter.Metric, {"a": 1}))
        said.append(attempt(F, "golden_other", "d", 99))
        return said

    def case_readiness(self, r):
        ready = pb_utils.is_model_ready
        return [
            attempt(ready, "api"), attempt(ready, "api", "1"), attempt(ready, "api", "7"),
            attempt(ready, "nobody"), attempt(ready, "api", "x"), attempt(ready, model_name="api", model_version=""),
        ]

    def case_loading(self, r):
        return [
            attempt(pb_utils.load_model, "nobody"),
            attempt(pb_utils.load_model, "raising_finalize"),
            attempt(pb_utils.is_model_ready, "raising_finalize"),
            attempt(pb_utils.load_model, model_name="raising_finalize", config="{"),
            attempt(pb_utils.load_model, "raising_finalize", '{"backend":"python"}', {"file:1/model.py": "text"}),
            attempt(pb_utils.unload_model, "nobody"),
            attempt(pb_utils.is_model_ready, "raising_finalize"),
        ]
