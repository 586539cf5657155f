"""HTTP as clients of other kinds speak it: HTTP/2, pipelines, chunks, headers for the model."""

import json
import socket
import subprocess

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import Server, write_model
from models import config

# Answers with the request's parameters.
TOLD_MODEL = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", np.array([request.parameters()], np.object_))]
                )
                for request in requests
            ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "m", config("identity", max_batch_size=0))
    told = config("python", "STRING", "[ 1 ]", 0)
    write_model(repository, "told", told, {"model.py": TOLD_MODEL})
    forward = ("--http-header-forward-pattern=^my_", "--grpc-header-forward-pattern=^my_")
    with Server(repository, *forward) as running:
        yield running


BODY = json.dumps({"inputs": [{"name": "IN", "shape": [1], "datatype": "FP32", "data": [1]}]})


def infer(data):
    return "POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
        len(data), data,
    )


def read_answers(connection, count):
    """The bodies of so many answers."""
    stream = connection.makefile("rb")
    bodies = []
    for _ in range(count):
        assert stream.readline().startswith(b"HTTP/1.1 200")
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        bodies.append(stream.read(length))
    return bodies


def test_requests_in_a_pipeline_are_answered_in_order(server):
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        many = [BODY.replace("[1]}", "[%d]}" % number) for number in range(50)]
        connection.sendall("".join(map(infer, many)).encode())
        answers = [json.loads(body)["outputs"][0]["data"] for body in read_answers(connection, 50)]
    assert answers == [[number] for number in range(50)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_bodies_in_chunks(server, size):
    chunks = [BODY[at:at + size] for at in range(0, len(BODY), size)] + [""]
    head = "POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    text = head + "".join("%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(text.encode())
        (answer,) = read_answers(connection, 1)
    assert json.loads(answer)["outputs"][0]["data"] == [1.0]


def test_http2_without_tls(server):
    done = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "-w", " %{http_version} %{http_code}",
         "-d", BODY, "http://%s/v2/models/m/infer" % server.url],
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer, version, status = done.stdout.rsplit(" ", 2)
    assert (version, status) == ("2", "200") and json.loads(answer)["outputs"]


def test_headers_are_forwarded_to_the_model(server):
    headers = {"my_header": "one", "other": "two"}
    for stock, url in ((httpclient, server.url), (grpcclient, server.grpc_url)):
        with stock.InferenceServerClient(url) as client:
            tensor = stock.InferInput("IN", [1], "BYTES")
            tensor.set_data_from_numpy(np.array([b"x"], np.object_))
            answer = client.infer("told", [tensor], headers=dict(headers), parameters={"mine": "3"})
            told = json.loads(answer.as_numpy("OUT")[0])
            assert told == {"my_header": "one", "mine": "3"}


def test_reserved_names_are_not_forwarded(tmp_path):
    write_model(tmp_path, "m", config("identity", max_batch_size=0))
    patterns = ("--http-header-forward-pattern=timeout", "--grpc-header-forward-pattern=timeout")
    with Server(tmp_path, *patterns) as server:
        for stock, url in ((httpclient, server.url), (grpcclient, server.grpc_url)):
            with stock.InferenceServerClient(url) as client:
                tensor = stock.InferInput("IN", [1], "FP32")
                tensor.set_data_from_numpy(np.float32([1]))
                with pytest.raises(Exception, match="Header 'timeout' is reserved for Triton usage"):
                    client.infer("m", [tensor], headers={"timeout": "1"})


def test_old_grpc_connections_are_renewed(tmp_path):
    """A client that is told so makes a new connection without losing a request."""
    write_model(tmp_path, "m", config("identity", max_batch_size=0))
    ages = ("--grpc-max-connection-age=50", "--grpc-max-connection-age-grace=5000")
    with Server(tmp_path, *ages) as server, grpc.insecure_channel(server.grpc_url) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        seen = []
        channel.subscribe(seen.append)
        while seen.count(grpc.ChannelConnectivity.READY) < 3:
            assert live(b"", wait_for_ready=True, timeout=60) == b"\x08\x01"
