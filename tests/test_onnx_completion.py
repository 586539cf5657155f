"""Configurations completed from ONNX graphs, by what Triton's documentation and the README of its ONNX
Runtime backend say: a model batches if the first dimension of all its tensors is open; then
`max_batch_size` is `default-max-batch-size`, 4 unless set, and above 1 the dynamic batcher is chosen
where the configuration names no scheduler. A configuration with inputs and outputs is complete."""

import pytest
from golden.completion import answer
from harness import Server, write_model
from onnx import TensorProto
from onnx_models import node, value, write_graph
from test_onnx import ORT

FLOAT = TensorProto.FLOAT

# name: what the graph takes and gives (datatype, shape), the configuration, what becomes of it.
CASES = {
    "open": ([(FLOAT, ["N", 3])], "", {"max_batch_size": 4, "dims": [[3]], "batcher": True}),
    "open_in_two_places": ([(FLOAT, [None, 3, "W"])], "", {"max_batch_size": 4, "dims": [[3, -1]], "batcher": True}),
    "fixed": ([(FLOAT, [2, 3])], "", {"max_batch_size": 0, "dims": [[2, 3]]}),
    "one_of_two_fixed": (
        [(FLOAT, ["N", 3]), (FLOAT, [1, 3])], "", {"max_batch_size": 0, "dims": [[-1, 3], [1, 3]]}
    ),
    "size_given": ([(FLOAT, ["N", 3])], "max_batch_size: 8", {"max_batch_size": 8, "dims": [[3]], "batcher": True}),
    "size_one": ([(FLOAT, ["N", 3])], "max_batch_size: 1", {"max_batch_size": 1, "dims": [[3]]}),
    "scheduler_given": (
        [(FLOAT, ["N", 3])],
        "sequence_batching { }",
        {"max_batch_size": 4, "dims": [[3]], "sequence": True},
    ),
    "batcher_given": (
        [(FLOAT, ["N", 3])],
        "dynamic_batching { max_queue_delay_microseconds: 100 }",
        {"max_batch_size": 4, "dims": [[3]], "batcher": True, "delay": 100},
    ),
    "complete": (
        [(FLOAT, ["N", 3])],
        'input [ { name: "x0" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]'
        ' output [ { name: "y0" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]',
        {"max_batch_size": 0, "dims": [[-1, 3]]},
    ),
    "only_inputs": (
        [(FLOAT, ["N", 3])],
        'max_batch_size: 2 input [ { name: "x0" data_type: TYPE_FP32 dims: [ 3 ] } ]',
        {"max_batch_size": 2, "dims": [[3]], "batcher": True},
    ),
    "cannot_batch": ([(FLOAT, [2, 3])], "max_batch_size: 8", "autofill failed for model 'cannot_batch'"),
}

TYPES = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32, "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16, "FP32": FLOAT, "FP64": TensorProto.DOUBLE,
    "STRING": TensorProto.STRING,
}


def write(folder, name, tensors, config):
    """A model whose output `y0` is its input `x0`, and so on."""
    write_model(folder, name, 'backend: "onnxruntime" %s' % config)
    nodes = [node("Identity", "x%d" % i, "y%d" % i) for i in range(len(tensors))]
    inputs = [value("x%d" % i, *tensor) for i, tensor in enumerate(tensors)]
    outputs = [value("y%d" % i, *tensor) for i, tensor in enumerate(tensors)]
    write_graph(folder, name, nodes, inputs, outputs)


def served(folder, *flags):
    return Server(folder, "--model-control-mode=explicit", *ORT, *flags)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, (tensors, config, _) in CASES.items():
        write(folder, name, tensors, config)
    write(folder, "types", [(number, ["N", 1]) for number in TYPES.values()], "")
    with served(folder) as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_the_configuration_is_completed_as_documented(server, name):
    expected, given = CASES[name][2], answer(server.port, name)
    if isinstance(expected, str):
        assert expected in given["error"]
        return
    config = given["config"]
    assert config["max_batch_size"] == expected["max_batch_size"]
    for side, letter in (("input", "x"), ("output", "y")):
        found = [(t["name"], t["data_type"], [int(d) for d in t["dims"]]) for t in config[side]]
        dims = enumerate(expected["dims"])
        assert found == [("%s%d" % (letter, i), "TYPE_FP32", d) for i, d in dims]
    assert ("dynamic_batching" in config) == expected.get("batcher", False)
    assert ("sequence_batching" in config) == expected.get("sequence", False)
    if "delay" in expected:
        assert int(config["dynamic_batching"]["max_queue_delay_microseconds"]) == expected["delay"]


def test_every_datatype(server):
    given = answer(server.port, "types")
    config = given.get("config")
    assert config, given
    assert [t["data_type"] for t in config["input"]] == ["TYPE_" + name for name in TYPES]


@pytest.mark.parametrize("size, batcher", [(16, True), (1, False), (0, False)])
def test_the_default_size_can_be_set(tmp_path, size, batcher):
    write(tmp_path, "m", [(FLOAT, ["N", 3])], "")
    with served(tmp_path, "--backend-config=default-max-batch-size=%d" % size) as server:
        config = answer(server.port, "m")["config"]
    assert config["max_batch_size"] == size and ("dynamic_batching" in config) == batcher


def test_without_completion_an_empty_configuration_is_refused(tmp_path):
    write(tmp_path, "m", [(FLOAT, ["N", 3])], "")
    with served(tmp_path, "--disable-auto-complete-config") as server:
        assert "error" in answer(server.port, "m")
