"""SageMaker's and Vertex AI's paths, as a Triton 2.51 has answered them."""

import json
import os
import struct
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from harness import Server, exit_code, write_model
from models import config, python_model

REQUEST = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
ANSWER = [{"name": "OUT", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]
SAGEMAKER = "application/vnd.sagemaker-triton.binary+json;json-header-size="
VERTEX = "application/vnd.vertex-ai-triton.binary+json;json-header-size="

MODEL = config("identity")

FAILING_MODEL = """
    class TritonPythonModel:
        def initialize(self, args):
            raise RuntimeError("CUDA out of memory")

        def execute(self, requests):
            return []
"""


@contextmanager
def environment(**variables):
    """The environment of a server that is started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def ask(port, method, path, body=None, **headers):
    """Status, headers and body of an answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        "http://127.0.0.1:%d%s" % (port, path),
        data,
        {name.replace("_", "-"): value for name, value in headers.items()},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def binary():
    """A request with a binary tensor, and how much of it is JSON."""
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + struct.pack("<2f", 1, 2), len(head)


def check_binary(port, path, mime, **headers):
    """Binary tensors travel by the vendor's content type, both ways."""
    body, length = binary()
    status, answered, reply = ask(port, "POST", path, body, content_type=mime + str(length), **headers)
    assert status == 200 and answered["Content-Type"].startswith(mime)
    at = int(answered["Content-Type"][len(mime):])
    assert json.loads(reply[:at])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", reply[at:]) == (1, 2)
    for content_type, message in [
        (mime + "9999", "inference header size should be in range (0, %d), got: 9999" % len(body)),
        (mime + "x", "Unable to parse inference header size, got: x"),
        ("a " + mime + "1", "expect MIME type for binary data starts with '%s', got: a %s1" % (mime, mime)),
    ]:
        status, _, reply = ask(port, "POST", path, body, content_type=content_type, **headers)
        assert status == 400 and json.loads(reply) == {"error": message}
    # The header of the API itself says nothing here.
    status, _, reply = ask(port, "POST", path, body, Inference_Header_Content_Length=str(length), **headers)
    assert status >= 400


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A repository with a model, and folders as SageMaker makes them."""
    root = tmp_path_factory.mktemp("cloud")
    write_model(root / "models", "first", MODEL)
    write_model(root / "ml/a1/model", "folder", MODEL)
    ensemble = """
        name: "whole" platform: "ensemble" max_batch_size: 8
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
        ensemble_scheduling { step [ {
          model_name: "part" model_version: -1
          input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
        } ] }
    """
    write_model(root / "ml/e1/model", "whole", ensemble)
    write_model(root / "ml/e1/model", "part", MODEL)
    for name in ("one", "two"):
        write_model(root / "ml/two/model", name, MODEL)
    write_model(root / "ml/broken/model", "m", "backend: 'nosuch'")
    python_model(root / "ml/short/model", "m", FAILING_MODEL)
    return root


@pytest.fixture(scope="module")
def sagemaker(folders):
    with environment(SAGEMAKER_TRITON_DEFAULT_MODEL_NAME="first"):
        running = Server(
            folders / "models", "--allow-sagemaker=true", "--sagemaker-port=0",
            "--model-control-mode=explicit", "--load-model=first",
            "--sagemaker-model-directory=%s" % (folders / "ml"),
        )
    with running:
        yield running.sagemaker_port


def test_sagemaker_asks_one_model(sagemaker):
    assert ask(sagemaker, "GET", "/ping")[::2] == (200, b"")
    status, _, body = ask(sagemaker, "POST", "/invocations", REQUEST, accept_encoding="gzip")
    assert status == 200 and json.loads(body)["outputs"] == ANSWER
    check_binary(sagemaker, "/invocations", SAGEMAKER)
    for method, path in (("POST", "/ping"), ("GET", "/invocations")):
        refused = (405, b'{"error":"Method Not Allowed"}')
        assert ask(sagemaker, method, path, b"" if method == "POST" else None)[::2] == refused
    for method, path in (("GET", "/v2"), ("GET", "/"), ("PUT", "/models/m")):
        assert ask(sagemaker, method, path)[::2] == (400, b"")


def load(port, folders, name, folder):
    url = str(folders / "ml" / folder)
    status, _, body = ask(port, "POST", "/models", {"model_name": name, "url": url})
    return status, json.loads(body)["error"] if body else ""


def listed(port):
    return json.loads(ask(port, "GET", "/models")[2])["models"]


@pytest.mark.parametrize("folder", ["a1/model", "e1/model"])
def test_sagemaker_loads_asks_and_unloads(sagemaker, folders, folder):
    assert listed(sagemaker) == []
    assert load(sagemaker, folders, "mine", folder) == (200, "")
    one = {"modelName": "mine", "modelUrl": str(folders / "ml" / folder)}
    assert listed(sagemaker) == [one]
    status, _, body = ask(sagemaker, "GET", "/models/mine")
    assert status == 200 and json.loads(body) == one
    status, _, body = ask(sagemaker, "POST", "/models/mine/invoke", REQUEST)
    answer = json.loads(body)
    assert status == 200 and answer["outputs"] == ANSWER and answer["model_name"] == "mine"
    check_binary(sagemaker, "/models/mine/invoke", SAGEMAKER)
    # Neither the name nor the folder twice.
    status, message = load(sagemaker, folders, "other", folder)
    assert status == 409 and message.endswith("%s' has already been registered" % folder)
    status, message = load(sagemaker, folders, "mine", "two/model/one")
    assert status == 409 and "conflicting mapping for 'mine'" in message
    assert ask(sagemaker, "DELETE", "/models/mine")[::2] == (200, b"")
    assert ask(sagemaker, "DELETE", "/models/mine")[::2] == (404, b"")
    for method, path in (("GET", "/models/mine"), ("POST", "/models/mine/invoke")):
        body = REQUEST if method == "POST" else None
        assert ask(sagemaker, method, path, body)[::2] == (404, b"")
    # And again.
    assert load(sagemaker, folders, "mine", folder) == (200, "")
    assert ask(sagemaker, "DELETE", "/models/mine")[0] == 200


def test_sagemaker_is_told_what_cannot_be_loaded(sagemaker, folders):
    for folder, status, message in [
        ("nosuch/model", 400, "repository not found"),
        ("two/model", 400, "one model, or several of which one is an ensemble"),
        ("broken/model", 400, "unable to find backend library for backend 'nosuch'"),
        ("short/model", 507, "CUDA out of memory"),
        ("../models", 400, "the url must have the form"),
        ("a1", 400, "the url must have the form"),
    ]:
        answered, text = load(sagemaker, folders, "bad", folder)
        assert answered == status and message in text, (folder, text)
    for body, message in [
        (b"nonsense", "failed to parse the request"),
        (b"", "failed to parse the request"),
        (b"{}", "expecting a string 'model_name'"),
        (b'{"model_name":7,"url":"/u"}', "expecting a string 'model_name'"),
    ]:
        status, _, reply = ask(sagemaker, "POST", "/models", body)
        assert status == 400 and message in json.loads(reply)["error"]
    assert listed(sagemaker) == []


def test_sagemaker_keeps_other_ports_to_a_range(folders):
    flags = "--allow-sagemaker=true", "--sagemaker-port=0", "--sagemaker-safe-port-range=1-2"
    code, output = exit_code(folders / "models", *flags)
    assert code == 1 and "HTTP requests at port 0, allowed port range is [1, 2]" in output


@pytest.fixture(scope="module")
def vertex(folders):
    with environment(AIP_MODE="PREDICTION", AIP_PREDICT_ROUTE="/predict", AIP_HEALTH_ROUTE="/health",
                     AIP_HTTP_PORT="0"):
        running = Server(folders / "models", "--allow-http=true", "--allow-grpc=true")
    with running:
        yield running


def test_vertex_ai_asks_one_model(vertex):
    port = vertex.vertex_port
    assert ask(port, "GET", "/health")[::2] == (200, b"")
    status, _, body = ask(port, "POST", "/predict", REQUEST)
    assert status == 200 and json.loads(body)["outputs"] == ANSWER
    check_binary(port, "/predict", VERTEX)
    for method, path in (("POST", "/health"), ("GET", "/predict")):
        assert ask(port, method, path, b"" if method == "POST" else None)[0] == 405
    for path in ("/v2", "/other"):
        assert ask(port, "POST", path, REQUEST)[::2] == (400, b"")


def test_vertex_ai_redirects_to_what_changes_nothing(vertex):
    def redirect(path, body=b""):
        return ask(vertex.vertex_port, "POST", "/predict", body, X_Vertex_Ai_Triton_Redirect=path)

    check_binary(vertex.vertex_port, "/predict", VERTEX,
                 X_Vertex_Ai_Triton_Redirect="v2/models/first/versions/1/infer")
    for path in ("v2", "v2/models/first", "v2/models/first/config", "v2/models/stats",
                 "v2/models/first/stats", "v2/repository/index", "v2/systemsharedmemory/status"):
        status, _, body = redirect(path)
        assert status == 200 and json.loads(body) is not None, path
    for path in ("v2/health/live", "v2/health/ready", "v2/models/first/ready"):
        assert redirect(path)[::2] == (200, b""), path
    assert b"nv_inference_request_success" in redirect("metrics")[2]
    assert redirect("v2/models/nobody")[0] == 404
    for path in ("/v2", "v2/nonsense", "v2/logging", "v2/trace/setting", "v2/models/first/generate",
                 "v2/repository/models/first/unload", "v2/systemsharedmemory/unregister"):
        assert redirect(path)[::2] == (400, b""), path
    assert ask(vertex.vertex_port, "GET", "/predict", X_Vertex_Ai_Triton_Redirect="v2")[0] == 405


def test_vertex_ai_needs_its_paths_and_one_model(folders, tmp_path):
    for name in ("one", "two"):
        write_model(tmp_path, name, MODEL)
    flags = "--allow-vertex-ai=true", "--vertex-ai-port=0"
    code, output = exit_code(tmp_path, *flags)
    assert code == 1 and "AIP_PREDICT_ROUTE is not defined for Vertex AI endpoint" in output
    with environment(AIP_PREDICT_ROUTE="/p", AIP_HEALTH_ROUTE="/h"):
        code, output = exit_code(tmp_path, *flags)
        assert code == 1 and "contains only a single model" in output
        code, output = exit_code(tmp_path, *flags, "--vertex-ai-default-model=three")
        assert code == 1 and "Expect the default model 'three' is loaded" in output
        with Server(tmp_path, *flags, "--vertex-ai-default-model=two") as running:
            assert ask(running.vertex_port, "POST", "/p", REQUEST)[0] == 200


def test_vertex_ai_alone(folders):
    """Where Vertex AI says that it runs the server, it is all that listens, and brings the models."""
    with environment(AIP_MODE="PREDICTION", AIP_PREDICT_ROUTE="/p", AIP_HEALTH_ROUTE="/h",
                     AIP_HTTP_PORT="0", AIP_STORAGE_URI=str(folders / "models")):
        with Server(None, wait_ready=False) as running:
            running.wait_for(lambda: "Vertex AI HTTPService at" in running.log() and "| Model" in running.log())
            assert ask(running.vertex_port, "POST", "/p", REQUEST)[0] == 200
            assert running.port is None and running.grpc_port is None
