"""The stock HTTP client against the real binary."""

import json
import urllib.request

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from models import IDENTITY_MODEL, config, python_model
from tritonclient.utils import InferenceServerException

DATATYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for datatype in DATATYPES:
        kind = "STRING" if datatype == "BYTES" else datatype
        for backend in ("identity", "python"):
            name = "%s_%s" % (backend, datatype)
            files = {"model.py": IDENTITY_MODEL} if backend == "python" else None
            write_model(repository, name, config(backend, kind, "[ -1, 2 ]"), files)
    write_model(
        repository,
        "pair",
        """
        backend: "identity"
        input [
          { name: "A" data_type: TYPE_FP32 dims: [ -1 ] },
          { name: "B" data_type: TYPE_INT32 dims: [ 2 ] }
        ]
        output [
          { name: "X" data_type: TYPE_FP32 dims: [ -1 ] },
          { name: "Y" data_type: TYPE_INT32 dims: [ 2 ] }
        ]
        """,
    )
    versioned = config("identity", more="version_policy { specific { versions: [ 1, 3 ] } }")
    for version in (1, 2, 3):
        write_model(repository, "versioned", versioned, version=version)
    python_model(repository, "batched", IDENTITY_MODEL, more="dynamic_batching { }")
    with Server(repository) as running:
        yield running


@pytest.fixture
def client(server):
    with httpclient.InferenceServerClient(server.url) as connected:
        yield connected


def sample(datatype, shape):
    count = int(np.prod(shape))
    if datatype == "BYTES":
        words = ["", "number plate", "кириллица", "\n\"quoted\""]
        values = [words[i % len(words)].encode() for i in range(count)]
        return np.array(values, dtype=np.object_).reshape(shape)
    return (np.arange(count) % 2 if datatype == "BOOL" else np.arange(count)).astype(
        DATATYPES[datatype]
    ).reshape(shape)


def ask(client, model, array, datatype, binary=True, **options):
    tensor = httpclient.InferInput("IN", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    outputs = [httpclient.InferRequestedOutput("OUT", binary_data=binary)]
    return client.infer(model, [tensor], outputs=outputs, **options)


@pytest.mark.parametrize("backend", ["identity", "python"])
@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_comes_back(client, backend, datatype, binary):
    if datatype == "FP16" and not binary:
        return  # JSON has no half precision; test_bad_input shows the refusal.
    array = sample(datatype, (3, 4, 2))
    result = ask(client, "%s_%s" % (backend, datatype), array, datatype, binary)
    if datatype == "BYTES" and not binary:
        array = np.vectorize(bytes.decode, otypes=[object])(array)
    assert result.as_numpy("OUT").tolist() == array.tolist()


@pytest.mark.parametrize("shape", [(1, 0, 2), (1, 40000, 2), (8, 100000, 2)])
def test_empty_and_large_tensors(client, shape):
    array = sample("FP32", shape)
    for backend in ("identity", "python"):
        result = ask(client, backend + "_FP32", array, "FP32")
        assert np.array_equal(result.as_numpy("OUT"), array)


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("pair") and client.is_model_ready("pair", "1")
    assert not client.is_model_ready("nobody")
    metadata = client.get_server_metadata()
    assert metadata["name"] == "triton" and "statistics" in metadata["extensions"]
    metadata = client.get_model_metadata("identity_BYTES")
    tensor = {"datatype": "BYTES", "shape": [-1, -1, 2]}
    assert metadata == {
        "name": "identity_BYTES",
        "versions": ["1"],
        "platform": "identity",
        "inputs": [{"name": "IN", **tensor}],
        "outputs": [{"name": "OUT", **tensor}],
    }
    model_config = client.get_model_config("batched")
    assert model_config["max_batch_size"] == 8
    assert model_config["dynamic_batching"]["preferred_batch_size"] == [8]
    assert model_config["instance_group"][0]["count"] == 1


def test_statistics_count(client):
    def counts():
        (row,) = client.get_inference_statistics("pair")["model_stats"]
        assert row["inference_stats"]["queue"]["count"] == row["inference_count"]
        return row["inference_count"], row["execution_count"]

    before = counts()
    pair(client)
    assert counts() == (before[0] + 1, before[1] + 1)
    names = [row["name"] for row in client.get_inference_statistics()["model_stats"]]
    assert names == sorted(names) and "batched" in names


def pair(client, outputs=None, **options):
    a = httpclient.InferInput("A", [3], "FP32")
    a.set_data_from_numpy(np.array([1, 2, 3], np.float32))
    b = httpclient.InferInput("B", [2], "INT32")
    b.set_data_from_numpy(np.array([4, 5], np.int32), binary_data=False)
    return client.infer("pair", [b, a], outputs=outputs, **options)


def test_outputs_are_chosen_one_by_one(client):
    everything = pair(client)
    assert everything.as_numpy("X").tolist() == [1, 2, 3]
    assert everything.as_numpy("Y").tolist() == [4, 5]
    only = pair(client, [httpclient.InferRequestedOutput("Y", binary_data=False)])
    assert only.as_numpy("X") is None
    assert only.get_output("Y")["data"] == [4, 5]


def test_request_id_and_parameters(client):
    result = pair(client, request_id="seven", parameters={"mine": "x", "count": 3})
    answer = result.get_response()
    assert answer["id"] == "seven"
    assert answer["model_version"] == "1"
    assert answer["parameters"]["param1"] == 42


def test_versions(client):
    assert client.get_model_metadata("versioned")["versions"] == ["1", "3"]
    array = sample("FP32", (1, 4))
    assert ask(client, "versioned", array, "FP32").get_response()["model_version"] == "3"
    asked = ask(client, "versioned", array, "FP32", model_version="1")
    assert asked.get_response()["model_version"] == "1"
    with pytest.raises(InferenceServerException, match="version 2 is not found"):
        ask(client, "versioned", array, "FP32", model_version="2")


def test_requests_are_batched(client):
    array = sample("FP32", (1, 4))
    handles = []
    for _ in range(16):
        tensor = httpclient.InferInput("IN", list(array.shape), "FP32")
        tensor.set_data_from_numpy(array)
        handles.append(client.async_infer("batched", [tensor]))
    for handle in handles:
        assert np.array_equal(handle.get_result().as_numpy("OUT"), array)


def test_a_raw_body_is_the_only_input(server):
    data = np.arange(6, dtype=np.float32)
    request = urllib.request.Request(
        "http://%s/v2/models/versioned/infer" % server.url,
        data.tobytes(),
        {"Inference-Header-Content-Length": "0"},
    )
    with urllib.request.urlopen(request) as reply:
        length = int(reply.headers["Inference-Header-Content-Length"])
        body = reply.read()
    assert json.loads(body[:length])["outputs"][0]["shape"] == [1, 6]
    assert body[length:] == data.tobytes()


def test_errors_have_status_and_text(client):
    with pytest.raises(InferenceServerException) as raised:
        ask(client, "nobody", sample("FP32", (1, 4)), "FP32")
    assert raised.value.status() == "404"
    assert raised.value.message() == "Request for unknown model: 'nobody' is not found"
