"""Tensors of 2 GiB, and tensors that are larger than the memory there is."""

import http.client
import json

import numpy as np
import pytest
from harness import Server
from models import IDENTITY_MODEL, python_model
from test_python_backend import infer

MIB, GIB = 1 << 20, 1 << 30

enough = pytest.mark.skipif("available() < 6 * GIB", reason="too little memory is left")

# The tensors are mostly zeros that were never written, which cost no memory until they are copied.
LENGTH = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [pb_utils.InferenceResponse([self.answer(r)]) for r in requests]

        def answer(self, r):
            x = pb_utils.get_input_tensor_by_name(r, "IN").as_numpy()
            return pb_utils.Tensor("OUT", np.array([x.nbytes / 2**30, x[-1]], np.float32))
"""
MAKES = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [pb_utils.InferenceResponse([self.answer(r)]) for r in requests]

        def answer(self, r):
            gib = pb_utils.get_input_tensor_by_name(r, "IN").as_numpy()[0]
            made = np.zeros(int(gib * 2**28), np.float32)
            made[-1] = 7
            return pb_utils.Tensor("OUT", made)
"""


def available():
    with open("/proc/meminfo") as lines:
        return next(int(n.split()[1]) for n in lines if n.startswith("MemAvailable:")) << 10


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, body in (("length", LENGTH), ("makes", MAKES), ("good", IDENTITY_MODEL)):
        python_model(repository, name, body, max_batch_size=0)
    with Server(repository) as running:
        yield running
        assert np.array_equal(infer(running, "good", np.float32([1, 2])), [1, 2])
        assert "was ended" not in running.log()
        assert running.stop() == 0


def head(elements):
    """Everything of a request with one binary input but that input, and its headers."""
    tensor = {"name": "IN", "shape": [elements], "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": 4 * elements}
    body = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(body)),
        "Content-Length": str(len(body) + 4 * elements),
    }
    return body, headers


def begin(server, model, elements):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    body, headers = head(elements)
    connection.putrequest("POST", "/v2/models/%s/infer" % model)
    for header in headers.items():
        connection.putheader(*header)
    connection.endheaders(body)
    return connection


@enough
def test_an_input_of_almost_two_gib(server):
    """As large as a body may be, but for a MiB."""
    connection = begin(server, "length", (2 * GIB - MIB) // 4)
    zeros = bytes(32 * MIB)
    for _ in range(63):
        connection.send(zeros)
    connection.send(zeros[: 31 * MIB - 4])
    connection.send(np.float32(7).tobytes())
    reply = connection.getresponse()
    answer = reply.read()
    connection.close()
    assert reply.status == 200, answer
    assert np.frombuffer(answer[-8:], np.float32).tolist() == [2 - 1 / 1024, 7]


@enough
def test_an_output_of_two_gib(server):
    connection = begin(server, "makes", 1)
    connection.send(np.float32(2).tobytes())
    reply = connection.getresponse()
    assert reply.status == 200
    left = int(reply.getheader("Content-Length"))
    assert left > 2 * GIB
    while left > 64 << 20:
        left -= len(reply.read(64 << 20))
    assert np.frombuffer(reply.read()[-4:], np.float32).tolist() == [7]
    connection.close()


@pytest.mark.parametrize("elements", [2 * GIB // 4, 1 << 42])
def test_a_larger_input_is_refused_before_it_is_sent(server, elements):
    connection = begin(server, "length", elements)
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    connection.close()
    limit = "request body exceeds the maximum allowed size of 2147483647 bytes"
    assert (reply.status, answer) == (400, {"error": limit})


@pytest.mark.parametrize(
    "gib, said",
    [
        (5, "no shared memory left|memory that are left"),
        (1 << 20, "Unable to allocate"),
    ],
)
def test_an_output_that_is_larger_than_there_is_room_for(server, gib, said):
    array = np.float32([gib])
    with pytest.raises(Exception, match=said):
        infer(server, "makes", array)


def test_an_output_that_is_larger_than_memory(server):
    with open("/proc/meminfo") as lines:
        total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:")) >> 20
    with pytest.raises(Exception, match="memory that are left|Unable to allocate|no shared memory"):
        infer(server, "makes", np.float32([total + 2]))
