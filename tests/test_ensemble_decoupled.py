"""Ensembles with decoupled models, over gRPC streams: answers as a Triton server gives them."""

import queue

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from harness import Server, write_model

# One response for each value; an error in place of -1.
EACH = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                for value in pb_utils.get_input_tensor_by_name(request, "IN").as_numpy():
                    if value == -1:
                        error = pb_utils.TritonError("boom")
                        sender.send(pb_utils.InferenceResponse(error=error))
                    else:
                        tensor = pb_utils.Tensor("OUT", np.array([value], np.float32))
                        sender.send(pb_utils.InferenceResponse([tensor]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

# Twice the sum of the inputs; an error for 7.
TWICE = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self.one(request) for request in requests]

        def one(self, request):
            total = sum(tensor.as_numpy() for tensor in request.inputs())
            if (total == 7).any():
                return pb_utils.InferenceResponse(error=pb_utils.TritonError("seven"))
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total * 2)])
"""

FINAL = "final"


def tensors(inputs, outputs):
    one = '{ name: "%s" data_type: TYPE_FP32 dims: [ -1 ] }'
    listed = [", ".join(one % name for name in names) for names in (inputs, outputs)]
    return "input [ %s ] output [ %s ] " % tuple(listed)


def step(model, reads, writes):
    def mapped(kind, names):
        return " ".join('%s { key: "%s" value: "%s" }' % (kind, *pair) for pair in names.items())

    maps = mapped("input_map", reads), mapped("output_map", writes)
    return '{ model_name: "%s" model_version: -1 %s %s }' % (model, *maps)


def each(reads, writes):
    return step("each", {"IN": reads}, {"OUT": writes})


def twice(reads, writes):
    return step("twice", {"IN": reads}, {"OUT": writes})


def add(one, other, writes):
    return step("add", {"A": one, "B": other}, {"OUT": writes})


def ensemble(repository, name, *steps, outputs=("OUT",), more=""):
    config = 'platform: "ensemble" %s ensemble_scheduling { step [ %s ] %s }'
    written = config % (tensors(("IN",), outputs), ", ".join(steps), more)
    write_model(repository, name, written)


def members(repository):
    python = 'backend: "python" '
    decoupled = python + "model_transaction_policy { decoupled: true } "
    write_model(repository, "each", decoupled + tensors(("IN",), ("OUT",)), {"model.py": EACH})
    write_model(repository, "twice", python + tensors(("IN",), ("OUT",)), {"model.py": TWICE})
    write_model(repository, "add", python + tensors(("A", "B"), ("OUT",)), {"model.py": TWICE})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    members(repository)
    ensemble(repository, "first", each("IN", "x"), twice("x", "OUT"))
    ensemble(repository, "last", twice("IN", "x"), each("x", "OUT"))
    ensemble(repository, "each_of_each", each("IN", "x"), each("x", "OUT"))
    ensemble(repository, "joined", each("IN", "x"), twice("x", "y"), add("x", "y", "OUT"))
    ensemble(repository, "nested", step("first", {"IN": "IN"}, {"OUT": "x"}), twice("x", "OUT"))
    both = ("OUT", "LATER")
    ensemble(repository, "two", each("IN", "OUT"), twice("OUT", "LATER"), outputs=both)
    limit = "max_inflight_requests: 1"
    ensemble(repository, "one_by_one", each("IN", "x"), twice("x", "OUT"), more=limit)
    steps = each("IN", "x"), each("x", "OUT")
    ensemble(repository, "one_instance", *steps, more="max_inflight_requests: 2")
    with Server(repository) as server:
        yield server


def ask(server, model, values, outputs=None):
    """The outputs of each response, or its error; at the end whether the last one said so."""
    answers = queue.Queue()
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        tensor = grpcclient.InferInput("IN", [len(values)], "FP32")
        tensor.set_data_from_numpy(np.array(values, np.float32))
        wanted = outputs and [grpcclient.InferRequestedOutput(name) for name in outputs]
        client.async_stream_infer(
            model, [tensor], outputs=wanted, enable_empty_final_response=True
        )
        got = []
        while True:
            result, error = answers.get(timeout=60)
            if error:
                return got + [error.message()]
            response = result.get_response()
            names = [output.name for output in response.outputs]
            values = [result.as_numpy(name).tolist() for name in names]
            got += [values[0] if len(values) == 1 else dict(zip(names, values))] if names else []
            if response.parameters["triton_final_response"].bool_param:
                return got + [FINAL]


@pytest.mark.parametrize(
    "model, values, expected",
    [
        ("first", [1, 2, 3], [[2], [4], [6], FINAL]),
        ("first", [], [FINAL]),
        ("last", [1, 2, 3], [[2], [4], [6], FINAL]),
        ("last", [], [FINAL]),
        ("last", [5, 7], ["in ensemble 'last', seven"]),
        ("each_of_each", [1, 2, 3], [[1], [2], [3], FINAL]),
        ("joined", [1, 2], [[6], [12], FINAL]),
        ("nested", [1, 2], [[4], [8], FINAL]),
        ("two", [1, 2], [{"OUT": [1], "LATER": [2]}, {"OUT": [2], "LATER": [4]}, FINAL]),
        ("one_by_one", list(range(8, 40)), [[2 * n] for n in range(8, 40)] + [FINAL]),
        ("one_by_one", [], [FINAL]),
        ("one_instance", [1, 2, 3, 4, 5], [[1], [2], [3], [4], [5], FINAL]),
    ],
)
def test_every_response_flows_on(server, model, values, expected):
    assert ask(server, model, values) == expected


@pytest.mark.parametrize(
    "model, values, reason",
    [
        ("first", [1, -1, 3], "in ensemble 'first', boom"),
        ("first", [5, 7, 6], "in ensemble 'first', seven"),
        ("one_by_one", [5, 7, 6, 8, 9], "in ensemble 'one_by_one', seven"),
        ("nested", [1, -1], "in ensemble 'nested', in ensemble 'first', boom"),
    ],
)
def test_an_error_in_the_middle_is_the_end(server, model, values, reason):
    *before, last = ask(server, model, values)
    assert last == reason
    assert before == [[2 * values[0]]] * len(before) or model == "nested"


def test_only_what_was_asked_for(server):
    assert ask(server, "two", [1, 2], ["OUT"]) == [[1], [2], FINAL]


# Says in a file of its folder each time before it sends, how often it has.
COUNTS = """
    import os
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.file = os.path.join(args["model_repository"], "sent")

        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                for count, value in enumerate(values, 1):
                    with open(self.file + ".new", "w") as file:
                        file.write(str(count))
                    os.replace(self.file + ".new", self.file)
                    tensor = pb_utils.Tensor("OUT", np.array([value], np.float32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

# Answers how often that other model had sent when this one had run a moment.
LOOKS = """
    import os, time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.file = os.path.join(args["model_repository"], "..", "counts", "sent")

        def execute(self, requests):
            (request,) = requests
            time.sleep(0.02)
            with open(self.file) as file:
                count = np.array([float(file.read())], np.float32)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", count)])]
"""


@pytest.mark.parametrize("limit", [1, 3])
def test_a_fast_model_waits_for_those_behind_it(tmp_path, limit):
    """`max_inflight_requests`: `send` returns only when there is room for the response."""
    decoupled = 'backend: "python" model_transaction_policy { decoupled: true } '
    config = decoupled + tensors(("IN",), ("OUT",))
    write_model(tmp_path, "counts", config, {"model.py": COUNTS})
    looks = 'backend: "python" ' + tensors(("IN",), ("OUT",))
    write_model(tmp_path, "looks", looks, {"model.py": LOOKS})
    steps = step("counts", {"IN": "IN"}, {"OUT": "x"}), step("looks", {"IN": "x"}, {"OUT": "OUT"})
    ensemble(tmp_path, "limited", *steps, more="max_inflight_requests: %d" % limit)
    ensemble(tmp_path, "free", *steps)
    with Server(tmp_path) as server:
        *seen, last = ask(server, "limited", list(range(20)))
        assert last == FINAL and len(seen) == 20
        # Behind those that have been looked at `limit` are on their way, one waits, and `send` of
        # one more has not returned.
        assert all(count <= n + limit + 2 for n, [count] in enumerate(seen)), seen
        assert max(count for [count] in seen) == 20
        *seen, last = ask(server, "free", list(range(20)))
        assert last == FINAL and seen[-1] == [20]


def test_native_models_wait_too(tmp_path):
    repeat = """
        backend: "repeat"
        model_transaction_policy { decoupled: true }
        input [
          { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },
          { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },
          { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] }
        ]
        output [
          { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },
          { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }
        ]
    """
    same = """
        backend: "identity"
        input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
        output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
        parameters { key: "execute_delay_ms" value { string_value: "1" } }
    """
    write_model(tmp_path, "repeat", repeat)
    write_model(tmp_path, "same", same)
    config = """
        platform: "ensemble"
        input [
          { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },
          { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },
          { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] }
        ]
        output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
        ensemble_scheduling { max_inflight_requests: 2 step [ %s, %s ] }
    """ % (
        step("repeat", {name: name for name in ("IN", "DELAY", "WAIT")}, {"OUT": "x"}),
        step("same", {"IN": "x"}, {"OUT": "OUT"}),
    )
    write_model(tmp_path, "limited", config)
    answers = queue.Queue()
    with Server(tmp_path) as server, grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        arrays = {
            "IN": np.arange(30, dtype=np.int32),
            "DELAY": np.zeros(30, np.uint32),
            "WAIT": np.zeros(1, np.uint32),
        }
        inputs = []
        for name, array in arrays.items():
            kind = "INT32" if name == "IN" else "UINT32"
            inputs.append(grpcclient.InferInput(name, array.shape, kind))
            inputs[-1].set_data_from_numpy(array)
        client.async_stream_infer("limited", inputs)
        got = [answers.get(timeout=60) for _ in range(30)]
        assert [error for _, error in got if error] == []
        assert sorted(int(result.as_numpy("OUT")[0]) for result, _ in got) == list(range(30))


def test_an_ensemble_with_a_decoupled_model_is_decoupled(server):
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        for model in ("first", "nested"):
            config = client.get_model_config(model).config
            assert config.model_transaction_policy.decoupled
        before = client.get_inference_statistics("first").model_stats[0].execution_count
        ask(server, "first", [1, 2, 3])
        after = client.get_inference_statistics("first").model_stats[0].execution_count
        assert after - before == 1
    status, body = server.get("/v2/models/twice/config")
    assert status == 200 and b'"decoupled":true' not in body


@pytest.mark.parametrize(
    "steps, outputs",
    [
        ([each("IN", "x"), twice("IN", "y"), add("x", "y", "OUT")], ("OUT",)),
        ([each("IN", "x"), each("IN", "y"), add("x", "y", "OUT")], ("OUT",)),
        ([each("IN", "x"), add("x", "IN", "OUT")], ("OUT",)),
        ([each("IN", "OUT"), twice("IN", "LATER")], ("OUT", "LATER")),
    ],
)
def test_responses_that_do_not_belong_together_are_not_joined(tmp_path, steps, outputs):
    members(tmp_path)
    ensemble(tmp_path, "e", *steps, outputs=outputs)
    with Server(tmp_path, "--exit-on-error=false") as server:
        reason = (
            "Invalid argument: in ensemble e, step of model 'e' receives inputs originated from "
            "different decoupled models"
        )
        assert reason in server.log()
