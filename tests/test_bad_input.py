"""Requests that nobody should send: each has its status and its text, and harms nobody."""

import http.client
import json
import socket

import pytest
from harness import Server, write_model
from models import config


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "m", config("identity", max_batch_size=4, dims="[ 2 ]"))
    write_model(repository, "words", config("identity", "STRING", "[ 2 ]", 0))
    with Server(repository) as running:
        yield running


def post(server, body, path="/v2/models/m/infer", headers=None, method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    return reply.status, json.loads(text)["error"] if text else ""


def body(**changes):
    tensor = {"name": "IN", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    tensor.update(changes)
    tensor = {key: value for key, value in tensor.items() if value is not None}
    return json.dumps({"inputs": [tensor]})


def good(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v2/models/m/infer", body())
    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    assert json.loads(reply.read())["outputs"][0]["data"] == [1, 2]
    connection.close()


IN = json.loads(body())["inputs"][0]
UNKNOWN = "[request id: <id_unknown>] "
SHAPE = UNKNOWN + "unexpected shape for input 'IN' for model 'm'. Expected [-1,2], got [1,3]. NOTE"

CASES = {
    "missing input": (
        json.dumps({"inputs": []}),
        400,
        UNKNOWN + "expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing "
        "required input(s) ['IN']. Please provide all required input(s).",
    ),
    "unknown input": (body(name="X"), 400, "unexpected inference input 'X' for model 'm'"),
    "input twice": (
        json.dumps({"inputs": [IN, IN]}),
        400,
        UNKNOWN + "input 'IN' already exists in request",
    ),
    "unknown output": (
        json.dumps({"inputs": [IN], "outputs": [{"name": "X"}]}),
        400,
        "unexpected inference output 'X' for model 'm'",
    ),
    "datatype": (
        body(datatype="INT32"),
        400,
        UNKNOWN + "inference input 'IN' data-type is 'INT32', but model 'm' expects 'FP32'",
    ),
    "shape": (body(shape=[1, 3], data=[1, 2, 3]), 400, SHAPE),
    "batch size": (
        body(shape=[5, 2], data=[0] * 10),
        400,
        UNKNOWN + "inference request batch-size must be <= 4 for 'm'",
    ),
    "negative shape": (
        body(shape=[1, -2]),
        500,
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
    "no data": (body(data=None), 400, "Input must set only one of the following fields"),
    "too few elements": (body(data=[1]), 500, "Failed to parse 'data' field"),
    "too many elements": (body(data=[1, 2, 3]), 500, "Unable to parse 'data': Shape does not"),
    "words for numbers": (
        body(data=["a", "b"]),
        500,
        "Unable to parse 'data': attempt to access JSON non-number as double",
    ),
    "no inputs": (
        "{}",
        500,
        "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'",
    ),
    "broken JSON": ('{"inputs":[', 500, "failed to parse the request JSON buffer: "),
    "nesting bomb": ('{"inputs":' + "[" * 100000, 400, "JSON nesting depth exceeds"),
    "overflow": (body(shape=[2**62, 2**62]), 400, "invalid shape for input 'IN'"),
}


@pytest.mark.parametrize("case", CASES)
def test_json_requests(server, case):
    text, status, message = CASES[case]
    assert post(server, text)[0] == status
    assert post(server, text)[1].startswith(message)
    good(server)


def test_paths_and_methods(server):
    unknown = (404, "Request for unknown model: 'x' is not found")
    assert post(server, body(), "/v2/models/x/infer") == unknown
    missing = (404, "Request for unknown model: 'm' version 7 is not found")
    assert post(server, body(), "/v2/models/m/versions/7/infer") == missing
    assert post(server, body(), "/v2/models/m/versions/x/infer") == (404, "Not Found")
    assert post(server, None, "/v2/models/m/infer", method="GET") == (405, "Method Not Allowed")
    assert post(server, "{}", "/v2/health/live") == (405, "Method Not Allowed")
    assert post(server, None, "/nonsense", method="GET") == (404, "Not Found")
    good(server)


def binary(size, tail, **headers):
    tensor = {"name": "IN", "shape": [1, 2], "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": size}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = headers or {"Inference-Header-Content-Length": str(len(text))}
    return text + tail, headers


def test_binary_requests(server):
    for size, tail, message in [
        (8, b"1234", "unexpected size for input 'IN', expecting 4 additional bytes"),
        (8, b"1" * 9, "unexpected additional input data for model 'm'"),
        (4, b"1234", UNKNOWN + "input byte size mismatch for input 'IN' for model 'm'. Expected 8"),
        (2**63, b"1234", "unexpected size for input 'IN'"),
    ]:
        text, headers = binary(size, tail)
        status, error = post(server, text, headers=headers)
        assert status == 400 and error.startswith(message), error
        good(server)


def test_header_lengths(server):
    for value, message in [
        ("100000", "inference header size should be in range (0, "),
        ("-1", "inference header size should be in range (0, "),
        ("many", "Unable to parse Inference-Header-Content-Length, got: many"),
    ]:
        status, error = post(server, body(), headers={"Inference-Header-Content-Length": value})
        assert status == 400 and error.startswith(message), error
        good(server)


def test_bad_strings(server):
    for tail in (b"\1\0", b"\xff\xff\xff\xffab", b"\1\0\0\0a", b"\1\0\0\0a" * 3):
        tensor = {"name": "IN", "shape": [2], "datatype": "BYTES"}
        tensor["parameters"] = {"binary_data_size": len(tail)}
        text = json.dumps({"inputs": [tensor]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        status, error = post(server, text + tail, "/v2/models/words/infer", headers)
        assert status == 400 and "input 'IN'" in error, error
        good(server)


def test_a_client_that_sends_half_a_request(server):
    for text in (b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", b"\0" * 99):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(text)
        good(server)


def test_announced_bodies_have_a_limit(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
        connection.sendall(head)
        assert b" 400 " in connection.recv(4096).split(b"\r\n")[0]
    good(server)
