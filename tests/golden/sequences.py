"""Sequences: what belongs to them, and what does not, over both transports.

A scenario is a list of requests, one after the other; of each, the parameters are given that say
where in which sequence it stands. Each has correlation IDs of its own.
"""

import json

from golden.exchange import ask, call, set_parameter
from harness import write_model
from tritonclient.grpc import service_pb2 as messages

# Answers with what the controls say.
MODEL = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                def seen(name):
                    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().flatten()[0]
                numbers = np.int32([[seen("IN"), seen("START"), seen("READY"), seen("END")]])
                identity = seen("CORRID")
                identity = identity.decode() if isinstance(identity, bytes) else str(identity)
                outputs = [
                    pb_utils.Tensor("OUT", numbers),
                    pb_utils.Tensor("ID", np.array([[identity]], dtype=np.object_)),
                ]
                answers.append(pb_utils.InferenceResponse(outputs))
            return answers
"""

CONFIG = """
    backend: "python"
    max_batch_size: 4
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [
      { name: "OUT" data_type: TYPE_INT32 dims: [ 4 ] },
      { name: "ID" data_type: TYPE_STRING dims: [ 1 ] }
    ]
    sequence_batching {
      oldest { max_candidate_sequences: 64 }
      max_sequence_idle_microseconds: 60000000
      control_input [
        { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
        { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] },
        { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
        { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%s } ] }
      ]
    }
"""

NUMBERED, NAMED = "sequence", "named_sequence"


def repository(folder):
    """One model whose correlation IDs are numbers, and one where they are texts."""
    for name, datatype in ((NUMBERED, "UINT64"), (NAMED, "STRING")):
        write_model(folder, name, CONFIG % datatype, {"model.py": MODEL})


def answers(http_port, stub):
    """Every answer by its name: what came of each request of a scenario."""
    found = {}
    for name, model, requests in scenarios():
        rows = 2 if "rows" in name else 1
        if "HTTP" in name:
            steps = [_over_http(http_port, model, rows, parameters) for parameters in requests]
        else:
            steps = [_over_grpc(stub, model, rows, parameters) for parameters in requests]
        found[name] = steps
    return found


def scenarios():
    """Name, model, and the parameters of each request."""
    for base, transport in ((0, "HTTP"), (10_000, "gRPC")):
        for name, model, requests in _scenarios(base, transport):
            yield "sequence over %s: %s" % (transport, name), model, requests


def _scenarios(base, transport):
    ids = iter(range(base + 1, base + 10_000))

    def step(sequence, start=None, end=None):
        given = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
        return {key: value for key, value in given.items() if value is not None}

    def whole(sequence):
        return [step(sequence, True, False), step(sequence), step(sequence, False, True)]

    for kind, model, new in (
        ("number", NUMBERED, lambda: next(ids)),
        ("text", NAMED, lambda: "%s %d" % (transport, next(ids))),
    ):
        other = {"number": "text %d" % next(ids), "text": next(ids)}[kind]
        yield kind + ", whole", model, whole(new())
        one = new()
        yield kind + ", begins and ends at once", model, [step(one, True, True), step(one)]
        yield kind + ", unknown", model, [step(new())]
        yield kind + ", unknown, ends", model, [step(new(), False, True)]
        one = new()
        yield kind + ", goes on after its end", model, [*whole(one), step(one)]
        one = new()
        yield kind + ", begins again", model, [step(one, True), step(one, True), step(one, None, True)]
        yield kind + ", none", model, [{}, {"sequence_start": True}, {"sequence_end": True}]
        yield kind + ", empty", model, [step("", True), step(0, True)]
        yield kind + ", two rows", model, [step(new(), True, True)]
        yield kind + ", of the other type", model, whole(other)
        one, two = new(), new()
        mixed = [step(one, True), step(two, True), step(one, None, True), step(two, None, True)]
        yield kind + ", two mixed", model, mixed
    yield "number, negative", NUMBERED, [step(-5, True, True)]
    yield "number, largest", NUMBERED, [step(2**64 - 1 - base, True, True)]
    yield "text that is a number", NAMED, whole(str(next(ids)))
    yield "text that is long", NAMED, [step("x" * 300 + transport, True, True)]
    wrong = next(ids)
    yield "number, flags are no booleans", NUMBERED, [step(wrong, 1), step(wrong, "yes"), step(wrong, None, 1)]
    yield "number, a double", NUMBERED, [step(1.5, True)]
    yield "number, a boolean", NUMBERED, [step(True, True)]


def _over_http(port, model, rows, parameters):
    data = list(range(7, 7 + rows))
    tensor = {"name": "IN", "shape": [rows, 1], "datatype": "INT32", "data": data}
    body = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return ask(port, "POST", "/v2/models/%s/infer" % model, {}, body)


def _over_grpc(stub, model, rows, parameters):
    made = messages.ModelInferRequest(model_name=model)
    made.inputs.add(name="IN", shape=[rows, 1], datatype="INT32")
    made.raw_input_contents.append(b"\7\0\0\0" * rows)
    for key, value in parameters.items():
        set_parameter(made.parameters[key], value)
    return call(stub.ModelInfer, made)
