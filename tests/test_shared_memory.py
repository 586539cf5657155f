"""Tensors in the client's shared memory, and outputs as classes, with the stock client."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
import tritonclient.utils.shared_memory as shm
from harness import Server, write_model
from models import IDENTITY_MODEL, config, python_model
from tritonclient.utils import InferenceServerException, serialize_byte_tensor


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "native", config("identity", max_batch_size=0))
    python_model(repository, "python", IDENTITY_MODEL, max_batch_size=0)
    write_model(repository, "words", config("identity", "STRING", max_batch_size=0))
    labelled = config("identity", dims="[ 3 ]").replace(
        'name: "OUT"', 'name: "OUT" label_filename: "labels.txt"'
    )
    write_model(repository, "labelled", labelled)
    (repository / "labelled/labels.txt").write_text("cat\n\ndog\n")
    with Server(repository, "--allow-client-shm=true") as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def stock(request):
    """The stock client's module for a protocol."""
    return {"http": httpclient, "grpc": grpcclient}[request.param]


@pytest.fixture
def client(server, stock):
    url = server.url if stock is httpclient else server.grpc_url
    client = stock.InferenceServerClient(url)
    yield client
    client.unregister_system_shared_memory()
    client.close()


@pytest.fixture
def region(client):
    """Makes regions and registers them."""
    made = []

    def make(name, byte_size):
        handle = shm.create_shared_memory_region(name, "/nereid_test_" + name, byte_size)
        made.append(handle)
        client.register_system_shared_memory(name, "/nereid_test_" + name, byte_size)
        return handle

    yield make
    for handle in made:
        shm.destroy_shared_memory_region(handle)


def raw(server, path, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request("http://%s%s" % (server.url, path), data=data, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


@pytest.mark.parametrize("elements", [16, 1_500_000])
@pytest.mark.parametrize("model", ["native", "python"])
def test_tensors_in_and_out(stock, client, region, model, elements):
    sent = np.arange(elements, dtype=np.float32)
    given, taken = region("in", sent.nbytes), region("out", sent.nbytes)
    for offset in (1, 2):
        shm.set_shared_memory_region(given, [sent + offset])
        tensor = stock.InferInput("IN", sent.shape, "FP32")
        tensor.set_shared_memory("in", sent.nbytes)
        wanted = stock.InferRequestedOutput("OUT")
        wanted.set_shared_memory("out", sent.nbytes)
        answer = client.infer(model, [tensor], outputs=[wanted])
        response = answer.get_response()
        if stock is httpclient:
            place = {"name": "OUT", "datatype": "FP32", "shape": [elements]}
            assert response["outputs"] == [place]
        else:
            assert list(response.raw_output_contents) == [b""]
        got = shm.get_contents_as_numpy(taken, np.float32, sent.shape)
        np.testing.assert_array_equal(got, sent + offset)


def test_strings(stock, client, region):
    sent = np.array([b"a", "жук".encode(), b""], dtype=np.object_)
    given = region("in", 64)
    shm.set_shared_memory_region(given, [serialize_byte_tensor(sent)])
    tensor = stock.InferInput("IN", sent.shape, "BYTES")
    tensor.set_shared_memory("in", 4 * 3 + 7)
    assert client.infer("words", [tensor]).as_numpy("OUT").tolist() == sent.tolist()


def test_regions_are_listed_and_forgotten(client, region):
    region("one", 64)
    expected = {"name": "one", "key": "/nereid_test_one", "offset": 0, "byte_size": 64}
    for name in ("", "one"):
        status = client.get_system_shared_memory_status(name)
        if not isinstance(status, list):
            status = [
                {field: getattr(row, field) for field in expected} for row in status.regions.values()
            ]
        assert status == [expected]
    with pytest.raises(InferenceServerException, match="'one' already in manager"):
        client.register_system_shared_memory("one", "/nereid_test_one", 64)
    client.unregister_system_shared_memory("one")
    client.unregister_system_shared_memory("one")
    with pytest.raises(InferenceServerException, match="Unable to find system shared memory region"):
        client.get_system_shared_memory_status("one")


REGISTER = "/v2/systemsharedmemory/region/%s/register"
KEY = "/nereid_test_r"


@pytest.mark.parametrize(
    "body, status, message",
    [
        ({"byte_size": 8}, 400, "Shared memory register request has no 'key' field"),
        ({"key": KEY}, 400, "Shared memory register request has no 'byte_size' field"),
        ({"key": 7, "byte_size": 8}, 500, "attempt to access JSON non-string as string"),
        ({"key": "/nereid_nothing", "byte_size": 8}, 500, "Unable to open shared memory region: "),
        ({"key": KEY, "byte_size": 65}, 400, "failed to register shared memory region 'x': invalid"),
        ({"key": KEY, "offset": 2**63, "byte_size": 8}, 400, "failed to register shared memory"),
        ({"key": "/triton_python_backend_shm_region_1", "byte_size": 8}, 400, "cannot register"),
        ({"key": "/../etc", "byte_size": 8}, 400, "cannot register shared memory region 'x' - invalid"),
    ],
)
def test_what_cannot_be_registered(server, region, body, status, message):
    region("r", 64)
    got = raw(server, REGISTER % "x", body)
    assert got[0] == status and got[1].startswith(message), got


def place(**values):
    return {"parameters": {"shared_memory_" + key: value for key, value in values.items()}}


@pytest.mark.parametrize(
    "given, wanted, status, message",
    [
        (place(region="x", byte_size=8), None, 404, "Unable to find shared memory region: 'x'"),
        (place(region="r", byte_size=4), None, 400, "input byte size mismatch for input 'IN'"),
        (place(region="r", byte_size=65), None, 400, "Invalid offset + byte size for shared memory"),
        (place(region="r", byte_size=8, offset=60), None, 400, "Invalid offset + byte size"),
        (place(region="r", byte_size=8, offset=2**63), None, 400, "Invalid offset for shared memory"),
        (place(region="r"), None, 400, "Invalid offset + byte size"),
        (place(region="r", byte_size=8, offset=-1), None, 500, "non-unsigned-integer"),
        (None, place(region="x", byte_size=8), 404, "Unable to find shared memory region: 'x'"),
        (None, place(region="r", byte_size=8, offset=64), 400, "Invalid offset for shared memory"),
        (None, place(region="r", byte_size=4), 500, "output 'OUT' (4 bytes) should be at least 8 bytes"),
    ],
)
def test_places_that_are_not_there(server, region, given, wanted, status, message):
    region("r", 64)
    tensor = {"name": "IN", "shape": [2], "datatype": "FP32", **(given or {"data": [1, 2]})}
    body = {"inputs": [tensor]}
    if wanted:
        body["outputs"] = [{"name": "OUT", **wanted}]
    got = raw(server, "/v2/models/native/infer", body)
    assert got[0] == status and message in got[1], got


def test_regions_must_be_allowed(tmp_path):
    with Server(tmp_path) as server:
        status, message = raw(server, REGISTER % "r", {"key": "/r", "byte_size": 8})
        assert status == 501 and "--allow-client-shm=true" in message
        status, _ = raw(server, "/v2/cudasharedmemory/region/r/register", {})
        assert status == 501
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            with pytest.raises(InferenceServerException, match="--allow-client-shm=true") as raised:
                client.register_system_shared_memory("r", "/r", 8)
            assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


def test_there_are_no_cuda_regions(client, stock, region):
    region("one", 64)
    client.unregister_cuda_shared_memory()
    client.unregister_cuda_shared_memory("nothing")
    assert not getattr(client.get_cuda_shared_memory_status(), "regions", None)
    for name, message in [
        ("nothing", "Unable to find cuda shared memory region: 'nothing'"),
        ("one", "registered as system shared memory, not CUDA shared memory"),
    ]:
        with pytest.raises(InferenceServerException, match=message):
            client.get_cuda_shared_memory_status(name)
    with pytest.raises(InferenceServerException, match="GPUs not supported"):
        client.register_cuda_shared_memory("r", b"a" * 64, 0, 64)


def test_outputs_as_classes(client, stock):
    sent = np.float32([[1, 9, 3], [5, 5, 7]])
    tensor = stock.InferInput("IN", sent.shape, "FP32")
    tensor.set_data_from_numpy(sent)
    for binary in (True, False):
        options = {"binary_data": binary} if stock is httpclient else {}
        wanted = stock.InferRequestedOutput("OUT", class_count=2, **options)
        classes = client.infer("labelled", [tensor], outputs=[wanted]).as_numpy("OUT")
        texts = [[t.decode() if isinstance(t, bytes) else t for t in row] for row in classes]
        assert texts == [["9.000000:1", "3.000000:2:dog"], ["7.000000:2:dog", "5.000000:0:cat"]]
    words = stock.InferInput("IN", [1], "BYTES")
    words.set_data_from_numpy(np.array([b"a"], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="unsupported type 'BYTES'"):
        wanted = stock.InferRequestedOutput("OUT", class_count=1)
        client.infer("words", [words], outputs=[wanted])
