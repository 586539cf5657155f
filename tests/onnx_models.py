"""Makes the ONNX models of the tests: `onnx_models.py FOLDER` writes `<name>/1/model.onnx`."""

import os
import sys

import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper, save

OPSET = [helper.make_opsetid("", 17)]
BATCH = ["batch", 2]


def value(name, datatype, shape):
    return helper.make_tensor_value_info(name, datatype, shape)


def constant(name, *values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs.split(), [output], **attributes)


# name: nodes, inputs, outputs, initializers
MODELS = {
    # y = 2x + 1
    "scale": (
        [node("Mul", "x two", "doubled"), node("Add", "doubled one", "y")],
        [value("x", T.FLOAT, BATCH)],
        [value("y", T.FLOAT, BATCH)],
        [constant("two", 2), constant("one", 1)],
    ),
    # Several inputs and outputs of several types.
    "sum_and_difference": (
        [
            node("Add", "left right", "sum"),
            node("Sub", "left right", "minus"),
            node("Cast", "minus", "difference", to=T.INT64),
            node("Less", "left right", "less"),
        ],
        [value("left", T.FLOAT, BATCH), value("right", T.FLOAT, BATCH)],
        [
            value("sum", T.FLOAT, BATCH),
            value("difference", T.INT64, BATCH),
            value("less", T.BOOL, BATCH),
        ],
        [],
    ),
    # Fails for another number of columns than three.
    "picky": (
        [node("MatMul", "x weight", "y")],
        [value("x", T.FLOAT, ["batch", "columns"])],
        [value("y", T.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.ones((3, 1), np.float32), "weight")],
    ),
    # Scalars, which a configuration cannot write down.
    "total": (
        [node("ReduceSum", "x", "sum", keepdims=0), node("Mul", "sum factor", "y")],
        [value("x", T.FLOAT, ["n"]), value("factor", T.FLOAT, [])],
        [value("y", T.FLOAT, [])],
        [],
    ),
    # An input with a default.
    "shift": (
        [node("Add", "x by", "y")],
        [value("x", T.FLOAT, [2]), value("by", T.FLOAT, [1])],
        [value("y", T.FLOAT, [2])],
        [constant("by", 10)],
    ),
    # Answers with what it was given, and with a constant.
    "echo": (
        [node("Identity", "x", "y")],
        [value("x", T.FLOAT, BATCH)],
        [value("y", T.FLOAT, BATCH), value("fixed", T.FLOAT, [1])],
        [constant("fixed", 42)],
    ),
    "strings": (
        [node("Identity", "x", "y")],
        [value("x", T.STRING, ["batch", "n"])],
        [value("y", T.STRING, ["batch", "n"])],
        [],
    ),
    # Adds up a sequence: controls START and READY, a state from AFTER to BEFORE.
    "accumulate": (
        [
            node("Sub", "one START", "later"),
            node("Mul", "BEFORE later", "kept"),
            node("Mul", "IN READY", "given"),
            node("Add", "kept given", "OUT"),
            node("Add", "OUT zero", "AFTER"),
        ],
        [value(name, T.FLOAT, ["batch", 1]) for name in ("IN", "START", "READY", "BEFORE")],
        [value(name, T.FLOAT, ["batch", 1]) for name in ("OUT", "AFTER")],
        [constant("one", 1), constant("zero", 0)],
    ),
    # Requests of several lengths in one row, and how many elements each of them has.
    "ragged": (
        [node("Add", "x x", "doubled"), node("Unsqueeze", "counts one", "count")],
        [value("x", T.FLOAT, ["elements"]), value("counts", T.FLOAT, ["requests"])],
        [value("doubled", T.FLOAT, ["elements"]), value("count", T.FLOAT, ["requests", 1])],
        [constant("one", 1, dtype=np.int64)],
    ),
    # An operator that only ONNX Runtime has.
    "rare": (
        [node("Det", "x", "y")],
        [value("x", T.FLOAT, [2, 2])],
        [value("y", T.FLOAT, [])],
        [],
    ),
}

NUMBERS = {
    "BOOL": T.BOOL, "UINT8": T.UINT8, "UINT16": T.UINT16, "UINT32": T.UINT32, "UINT64": T.UINT64,
    "INT8": T.INT8, "INT16": T.INT16, "INT32": T.INT32, "INT64": T.INT64,
    "FP16": T.FLOAT16, "FP32": T.FLOAT, "FP64": T.DOUBLE,
}

for name, number in NUMBERS.items():
    MODELS["twice_" + name] = (
        [node("Concat", "IN IN", "OUT", axis=1)],
        [value("IN", number, ["batch", "n"])],
        [value("OUT", number, ["batch", "m"])],
        [],
    )


def write(folder, *names):
    """Writes the models of these names, or all of them."""
    for name in names or MODELS:
        write_graph(folder, name, *MODELS[name])


def write_graph(folder, name, nodes, inputs, outputs, initializers=()):
    """Writes one model."""
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    version = os.path.join(folder, name, "1")
    os.makedirs(version, exist_ok=True)
    save(model, os.path.join(version, "model.onnx"))


if __name__ == "__main__":
    write(*sys.argv[1:])
