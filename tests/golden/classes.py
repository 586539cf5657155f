"""Classification: outputs as the classes with the largest values, over both transports."""

import json
from pathlib import Path

import numpy as np
from golden.exchange import ask, call
from harness import write_model
from models import IDENTITY_MODEL, config
from tritonclient.grpc import service_pb2 as messages

LABELS = ["cat", "dog", "", "жук"]
TYPES = {
    "UINT8": np.uint8, "INT8": np.int8, "UINT16": np.uint16, "INT16": np.int16,
    "UINT32": np.uint32, "INT32": np.int32, "UINT64": np.uint64, "INT64": np.int64,
    "FP32": np.float32, "FP64": np.float64, "BOOL": np.bool_,
}


def repository(folder):
    """A model whose classes have names, some of them."""
    labelled = config("python", max_batch_size=4).replace(
        'name: "OUT"', 'label_filename: "labels.txt" name: "OUT"'
    )
    write_model(folder, "labelled", labelled, {"model.py": IDENTITY_MODEL})
    Path(folder, "labelled", "labels.txt").write_text("".join(label + "\n" for label in LABELS))


def answers(http_port, stub):
    """Every answer by its name. Left out are values that are equal, whose order is open, and
    tensors without elements, which end Triton 2.51."""
    found = {}
    for name, model, datatype, rows, count in _scenarios():
        array = np.array(rows, TYPES[datatype])
        asked = {"classification": count}
        tensor = {"name": "IN", "shape": array.shape, "datatype": datatype}
        body = {
            "inputs": [{**tensor, "data": array.flatten().tolist()}],
            "outputs": [{"name": "OUT", "parameters": asked}],
        }
        path = "/v2/models/%s/infer" % model
        body = json.dumps(body).encode()
        found["classes over HTTP: " + name] = ask(http_port, "POST", path, {}, body)
        made = messages.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()])
        made.inputs.add(**tensor)
        made.outputs.add(name="OUT").parameters["classification"].int64_param = count
        found["classes over gRPC: " + name] = call(stub.ModelInfer, made)
    return found


def _scenarios():
    rows = [[1, 4, 3, 2], [9, 8, 6, 7]]
    for count in (1, 3, 9):
        yield "labels, %d" % count, "labelled", "FP32", rows, count
    yield "more than there are labels", "labelled", "FP32", [[1, 2, 3, 4, 5, 6]], 6
    for datatype in TYPES:
        values = [True] if datatype == "BOOL" else [3, 100, 7]
        yield datatype, datatype.lower(), datatype, values, 2
    yield "negative", "int64", "INT64", [-3, -(2**63), 2**63 - 1], 3
    yield "large", "uint64", "UINT64", [2**64 - 1, 0], 2
    yield "fractions", "fp64", "FP64", [0.1, 1e300, -1e-300, 123456.7891], 4
    yield "infinities", "fp32", "FP32", [np.inf, -np.inf, 1e38], 3
