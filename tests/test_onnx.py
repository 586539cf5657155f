"""ONNX models, on ONNX Runtime and on the engine that is part of the server."""

import os
import re

import numpy as np
import onnx_models
import onnxruntime
import pytest
import tritonclient.http as httpclient
from harness import Server, exit_code, write_model
from models import config
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

LIBRARY = os.path.dirname(onnxruntime.__file__)
ORT = ["--backend-config=onnxruntime,library=" + LIBRARY]
RTEN = ["--backend-config=onnxruntime,engine=rten"]

# What the built-in engine cannot do.
NEEDS_ORT = {"rare", "strings"} | {
    "twice_" + name for name in ("INT8", "UINT8", "INT16", "UINT16", "UINT32", "UINT64")
}

RESHAPED = """
    backend: "onnxruntime"
    max_batch_size: 4
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 1, 2 ] reshape { shape: [ 2 ] } } ]
    output [ { name: "y" data_type: TYPE_FP32 dims: [ 2, 1 ] reshape { shape: [ 2 ] } } ]
"""

OPTIONAL = """
    backend: "onnxruntime"
    input [
      { name: "x" data_type: TYPE_FP32 dims: [ 2 ] },
      { name: "by" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
    ]
    output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("onnx")
    onnx_models.write(repository)
    (repository / "shift/config.pbtxt").write_text(OPTIONAL)
    scale = (repository / "scale/1/model.onnx").read_bytes()
    write_model(repository, "reshaped", RESHAPED, {"model.onnx": scale})
    several = "instance_group [ { count: 3 } ]"
    write_model(repository, "several", several, {"model.onnx": scale})
    return repository


@pytest.fixture(scope="module", params=["onnxruntime", "rten"])
def server(request, repository):
    flags = ORT if request.param == "onnxruntime" else RTEN
    with Server(repository, "--exit-on-error=false", *flags) as running:
        running.engine = request.param
        yield running


@pytest.fixture
def infer(server):
    client = httpclient.InferenceServerClient(server.url)

    def ask(model, *outputs, **inputs):
        """Arrays for the inputs, arrays of the outputs."""
        if server.engine == "rten" and model in NEEDS_ORT:
            pytest.skip("needs ONNX Runtime")
        sent = []
        for name, array in inputs.items():
            tensor = httpclient.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            sent.append(tensor)
        wanted = [httpclient.InferRequestedOutput(name) for name in outputs]
        result = client.infer(model, sent, outputs=wanted)
        return [result.as_numpy(name) for name in outputs]

    yield ask
    client.close()


def test_the_configuration_comes_from_the_graph(server):
    client = httpclient.InferenceServerClient(server.url)
    config = client.get_model_config("sum_and_difference")
    assert config["max_batch_size"] == 4 and "dynamic_batching" in config
    assert config["platform"] == "onnxruntime_onnx"
    assert [(i["name"], i["data_type"], i["dims"]) for i in config["input"]] == [
        ("left", "TYPE_FP32", [2]),
        ("right", "TYPE_FP32", [2]),
    ]
    assert [(o["name"], o["data_type"], o["dims"]) for o in config["output"]] == [
        ("sum", "TYPE_FP32", [2]),
        ("difference", "TYPE_INT64", [2]),
        ("less", "TYPE_BOOL", [2]),
    ]
    scalar = client.get_model_config("total")
    assert (scalar["max_batch_size"], scalar["output"][0]["dims"]) == (0, [1])
    client.close()


@pytest.mark.parametrize("datatype", sorted(onnx_models.NUMBERS))
def test_every_type_of_number(infer, datatype):
    sent = (np.arange(6).reshape(2, 3) % 5).astype(triton_to_np_dtype(datatype))
    (got,) = infer("twice_" + datatype, "OUT", IN=sent)
    assert got.dtype == sent.dtype
    np.testing.assert_array_equal(got, np.concatenate([sent, sent], 1))


def test_several_inputs_and_outputs(infer):
    left, right = np.float32([[5, 1]]), np.float32([[2, 3]])
    total, difference, less = infer(
        "sum_and_difference", "sum", "difference", "less", left=left, right=right
    )
    np.testing.assert_array_equal(total, [[7, 4]])
    np.testing.assert_array_equal(difference, np.int64([[3, -2]]))
    np.testing.assert_array_equal(less, [[False, True]])
    (only,) = infer("sum_and_difference", "difference", left=left, right=right)
    np.testing.assert_array_equal(only, difference)


def test_strings(infer):
    sent = np.array([[b"a", b"", "жук".encode()], [b"x\0y", b"b", b"c" * 1000]], dtype=np.object_)
    (got,) = infer("strings", "y", x=sent)
    assert got.tolist() == sent.tolist()


def test_scalars_are_tensors_of_one_element(infer):
    (got,) = infer("total", "y", x=np.float32([1, 2, 3]), factor=np.float32([10]))
    np.testing.assert_array_equal(got, [60])


def test_an_optional_input_has_its_default(server, infer):
    x = np.float32([1, 2])
    np.testing.assert_array_equal(infer("shift", "y", x=x)[0], [11, 12])
    given = {"x": x, "by": np.float32([1])}
    if server.engine == "rten":
        with pytest.raises(InferenceServerException, match="'by' cannot be given"):
            infer("shift", "y", **given)
    else:
        np.testing.assert_array_equal(infer("shift", "y", **given)[0], [2, 3])


def test_an_output_that_is_the_input_or_a_constant(infer):
    sent = np.float32([[1, 2]])
    for _ in range(20):
        (y,) = infer("echo", "y", x=sent)
        np.testing.assert_array_equal(y, sent)


def test_reshaped_tensors(infer):
    (got,) = infer("reshaped", "y", x=np.float32([[[1, 2]], [[3, 4]]]))
    np.testing.assert_array_equal(got, [[[3], [5]], [[7], [9]]])


def test_large_tensors(infer):
    sent = np.random.default_rng(0).random((4, 100_000), np.float32)
    (got,) = infer("twice_FP32", "OUT", IN=sent)
    np.testing.assert_array_equal(got, np.concatenate([sent, sent], 1))


def test_a_failing_run_hurts_nobody_else(infer):
    with pytest.raises(InferenceServerException, match="error: "):
        infer("picky", "y", x=np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(infer("picky", "y", x=np.ones((1, 3), np.float32))[0], [[3]])


def test_instances_run_one_session_at_once(server):
    client = httpclient.InferenceServerClient(server.url, concurrency=8)
    sent = httpclient.InferInput("x", [1, 2], "FP32")
    sent.set_data_from_numpy(np.float32([[1, 2]]))
    answers = [client.async_infer("several", [sent]) for _ in range(200)]
    for answer in answers:
        np.testing.assert_array_equal(answer.get_result().as_numpy("y"), [[3, 5]])
    client.close()


def test_what_the_built_in_engine_lacks_is_named(repository):
    code, log = exit_code(repository, *RTEN)
    assert code == 1
    assert "Det operator not supported" in log
    assert "'x' has elements of type BYTES" in log


def test_without_onnx_runtime_the_built_in_engine_runs_and_says_so(repository):
    absent = ["--backend-config=onnxruntime,library=/nonexistent"]
    with Server(repository, "--exit-on-error=false", *absent) as server:
        assert "'scale' runs on the built-in engine (rten)" in server.log()
        assert "pip install onnxruntime" in server.log()
        assert server.get("/v2/models/scale/ready")[0] == 200
        assert server.get("/v2/models/rare/ready")[0] != 200
        assert "Det operator" in server.log()


@pytest.mark.parametrize("flags", [ORT, RTEN], ids=["onnxruntime", "rten"])
def test_what_cannot_be_loaded_is_explained(tmp_path, repository, flags):
    scale = (repository / "scale/1/model.onnx").read_bytes()
    good = (
        'backend: "onnxruntime" max_batch_size: 4 '
        'input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ] '
        'output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ] '
    )
    option = 'parameters { key: "execution_mode" value: { string_value: "fast" } }'
    provides = "TYPE_INT8 for input 'x', model provides TYPE_FP32"
    outputs = "unexpected inference output 'z', allowed outputs are: y"
    cases = {
        "cut": (good, scale[:40], "is not an ONNX model"),
        "noise": (good, b"not a model at all", "is not an ONNX model"),
        "absent": (good, None, "unable to find '"),
        "shape": (good.replace("[ 2 ]", "[ 3 ]", 1), scale, "making complete shape \\[-1,3\\]"),
        "type": (good.replace("FP32", "INT8", 1), scale, provides),
        "name": (good.replace('"y"', '"z"'), scale, outputs),
        "option": (good + option, scale, "'fast'"),
    }
    for name, (text, model, _) in cases.items():
        write_model(tmp_path, name, text, {"model.onnx": model} if model else None)
    with Server(tmp_path, "--exit-on-error=false", *flags) as server:
        table = {line.split("|")[1].strip(): line for line in server.lines if line.startswith("| ")}
        for name, (_, _, reason) in cases.items():
            assert re.search(reason, table[name]), table[name]
