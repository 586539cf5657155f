"""Traces: Triton's extension and files, and spans as a collector gets them."""

import base64
import json
import queue
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from certificates import Authority
from google.protobuf.json_format import MessageToDict
from harness import Server, write_model
from models import config, python_model
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest as Export,
)
from tritonclient.utils import InferenceServerException

SETTINGS = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "/nowhere/traces",
    "trace_mode": "triton",
}

# As a Triton 2.51 answered over HTTP.
REFUSALS = [
    ({"trace_rate": "abc"}, "Unable to parse 'trace_rate', got: abc", "400"),
    ({"trace_rate": 5}, "attempt to access JSON non-string as string", "500"),
    ({"trace_count": "-2"}, "Unable to parse 'trace_count'. Expecting value >= -1, got:-2", "400"),
    ({"log_frequency": "x"}, "Unable to parse 'log_frequency', got: x", "400"),
    ({"trace_level": "TIMESTAMPS"}, "attempt to access JSON non-array as array", "500"),
    ({"trace_level": ["OFF", "TENSORS"]}, "Expect only one trace level 'OFF' is specified", "400"),
    ({"trace_file": "x"}, "trace file location can not be updated through network protocol", "501"),
]
GRPC_REFUSALS = [
    ({"trace_rate": "abc"}, "Unable to parse 'trace_rate', got: abc", "INVALID_ARGUMENT"),
    ({"trace_rate": ["1", "2"]}, "expect only 1 value for 'trace_rate'", "INVALID_ARGUMENT"),
    (
        {"trace_count": "-2"},
        "Unable to parse 'trace_count'. Expecting value >= -1, got: -2",
        "INVALID_ARGUMENT",
    ),
    (
        {"trace_file": "x"},
        "trace file location can not be updated through network protocol",
        "UNIMPLEMENTED",
    ),
]

# Asks the model `inner`, and answers with the context that it was given itself.
OUTER_MODEL = """
    import json
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                tensor = pb_utils.get_input_tensor_by_name(request, "IN")
                asked = pb_utils.InferenceRequest(
                    model_name="inner", requested_output_names=["OUT"], inputs=[tensor]
                )
                assert not asked.exec().has_error()
                context = request.trace().get_context() or ""
                data = np.array([context.encode()], np.object_)
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("CONTEXT", data)]))
            return answers
"""

OUTER_CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "CONTEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
"""

ENSEMBLE = """
    platform: "ensemble"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
    ensemble_scheduling { step [ {
      model_name: "inner" model_version: -1
      input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
    } ] }
"""

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "inner", config("identity", max_batch_size=0))
    write_model(folder, "outer", OUTER_CONFIG, {"model.py": OUTER_MODEL})
    write_model(folder, "whole", ENSEMBLE)
    failing = "raise ValueError('failed')"
    model = "class TritonPythonModel:\n    def execute(self, requests):\n        %s\n" % failing
    python_model(folder, "failing", model, max_batch_size=0)
    return folder


def ask(client, model, numbers=(3.0,), **options):
    module = grpcclient if isinstance(client, grpcclient.InferenceServerClient) else httpclient
    array = np.array(numbers, np.float32)
    tensor = module.InferInput("IN", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return client.infer(model, [tensor], **options)


def test_settings_over_both_protocols(repository):
    with Server(repository, "--trace-config=triton,file=/nowhere/traces") as server:
        http = httpclient.InferenceServerClient(server.url)
        grpc = grpcclient.InferenceServerClient(server.grpc_url)

        def over_grpc(**options):
            settings = grpc.get_trace_settings(as_json=True, **options)["settings"]
            values = {name: setting["value"] for name, setting in settings.items()}
            level = values.pop("trace_level")
            return {"trace_level": level, **{name: value for name, (value,) in values.items()}}

        assert http.get_trace_settings() == over_grpc() == SETTINGS
        changed = {"trace_rate": "7", "trace_level": ["TIMESTAMPS", "TENSORS"]}
        assert http.update_trace_settings(settings=changed) == {**SETTINGS, **changed}
        http.update_trace_settings("inner", {"trace_rate": "5"})
        http.update_trace_settings(settings={"trace_rate": "9", "trace_count": "3"})
        model = {**SETTINGS, **changed, "trace_rate": "5", "trace_count": "3"}
        assert http.get_trace_settings("inner") == over_grpc(model_name="inner") == model
        assert http.get_trace_settings("outer") == {**model, "trace_rate": "9"}
        grpc.update_trace_settings("inner", {"trace_rate": None})
        assert http.get_trace_settings("inner")["trace_rate"] == "9"
        back = {"trace_rate": None, "trace_count": None, "trace_level": None}
        assert http.update_trace_settings(settings=back) == SETTINGS

        for settings, message, status in REFUSALS:
            with pytest.raises(InferenceServerException) as raised:
                http.update_trace_settings(settings=settings)
            assert (raised.value.message(), raised.value.status()) == (message, status)
        for settings, message, status in GRPC_REFUSALS:
            with pytest.raises(InferenceServerException) as raised:
                grpc.update_trace_settings(settings=settings)
            assert raised.value.message() == message
            assert raised.value.status() == "StatusCode." + status
        unknown = "Request for unknown model: 'nobody' is not found"
        for client in (http, grpc):
            with pytest.raises(InferenceServerException, match=unknown):
                client.get_trace_settings("nobody")
        assert http.get_trace_settings() == SETTINGS
        http.close()
        grpc.close()


def traces(path):
    """What a file holds, by trace: what it is about, its timestamps in order, its tensors."""
    found = {}
    for element in json.loads(path.read_text()):
        trace = found.setdefault(element["id"], {"times": [], "tensors": []})
        if "model_name" in element:
            trace["about"] = element
        elif "timestamps" in element:
            trace["times"] += [(t["name"], t["ns"]) for t in element["timestamps"]]
        else:
            trace["tensors"].append((element["activity"], element["tensor"]))
    return found


STATIONS = ["REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END"]
STATIONS += ["COMPUTE_OUTPUT_START", "COMPUTE_END"]


def test_files(repository, tmp_path):
    flags = ["level=TIMESTAMPS", "level=TENSORS", "rate=1", "triton,file=%s" % (tmp_path / "all")]
    with Server(repository, *["--trace-config=%s" % flag for flag in flags]) as server:
        with httpclient.InferenceServerClient(server.url) as client:
            ask(client, "inner", request_id="seven")
            ask(client, "whole")
            ask(client, "outer")
            with pytest.raises(InferenceServerException):
                ask(client, "failing")
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            ask(client, "inner")
        assert server.stop() == 0
    (file,) = tmp_path.iterdir()
    found = traces(file)
    about = {"id": 1, "model_name": "inner", "model_version": 1, "request_id": "seven"}
    assert found[1]["about"] == about
    names = [name for name, _ in found[1]["times"]]
    socket = ["HTTP_RECV_START", "HTTP_RECV_END"], ["HTTP_SEND_START", "HTTP_SEND_END"]
    ended = ["INFER_RESPONSE_COMPLETE", "REQUEST_END"]
    assert names == [*socket[0], *STATIONS, *ended, *socket[1]]
    moments = [ns for _, ns in found[1]["times"]]
    assert moments == sorted(moments)
    tensor = {"data": "3", "shape": "1", "dtype": "FP32"}
    assert found[1]["tensors"] == [
        ("TENSOR_QUEUE_INPUT", {"name": "IN", **tensor}),
        ("TENSOR_BACKEND_OUTPUT", {"name": "OUT", **tensor}),
    ]
    parents = [
        (trace["about"]["model_name"], trace["about"].get("parent_id"))
        for _, trace in sorted(found.items())
    ]
    # The step of the ensemble and the request of the Python model are children.
    assert parents[1:5] == [("whole", None), ("inner", 2), ("outer", None), ("inner", 4)]
    assert parents[5:] == [("failing", None), ("inner", None)]
    assert [name for name, _ in found[3]["times"]] == [*STATIONS, "REQUEST_END"]
    ensemble = [name for name, _ in found[2]["times"]]
    assert ensemble == [*socket[0], *STATIONS[:2], *ended, *socket[1]]
    over_grpc = [name for name, _ in found[7]["times"]]
    assert over_grpc[:2] == ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END"]
    assert over_grpc[-2:] == ["GRPC_SEND_START", "GRPC_SEND_END"]


def test_one_of_so_many_and_so_many_in_a_file(repository, tmp_path):
    flags = ["level=TIMESTAMPS", "rate=2", "count=3", "triton,log-frequency=2"]
    flags.append("triton,file=%s" % (tmp_path / "some"))
    with Server(repository, *["--trace-config=%s" % flag for flag in flags]) as server:
        with httpclient.InferenceServerClient(server.url) as client:
            for _ in range(9):
                ask(client, "inner")
            assert client.get_trace_settings()["trace_count"] == "0"
        server.stop()
    assert {file.name: len(traces(file)) for file in tmp_path.iterdir()} == {"some.0": 2, "some.1": 1}


class Collector:
    """Takes spans as a collector does."""

    def __init__(self, certificate=None):
        bodies = self.bodies = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.put((self.path, self.headers["Content-Type"], body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.url = "%s://127.0.0.1:%d/v1/traces" % (scheme, self.server.server_port)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def spans(self):
        """All that came; and the attributes of who sent them."""
        found, resources = [], []
        while not self.bodies.empty():
            path, kind, body = self.bodies.get()
            assert (path, kind) == ("/v1/traces", "application/x-protobuf")
            body = MessageToDict(Export.FromString(body), use_integers_for_enums=True)
            (resource,) = body["resourceSpans"]
            (scope,) = resource["scopeSpans"]
            for span in scope["spans"]:
                ids = {k: base64.b64decode(v).hex() for k, v in span.items() if k.endswith("Id")}
                found.append({**span, **ids})
            resources.append(attributes(resource["resource"]))
        return found, resources

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def attributes(holder):
    return {a["key"]: next(iter(a["value"].values())) for a in holder["attributes"]}


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


def test_spans(repository, collector):
    # Only requests that belong to a trace already are followed.
    flags = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=0"]
    flags.append("opentelemetry,url=%s" % collector.url)
    flags.append("opentelemetry,resource=service.name=plates")
    header = {"traceparent": "00-%s-%s-01" % (TRACE, PARENT)}
    with Server(repository, *["--trace-config=%s" % flag for flag in flags]) as server:
        with httpclient.InferenceServerClient(server.url) as client:
            assert client.get_trace_settings()["trace_mode"] == "opentelemetry"
            ask(client, "inner")
            context = ask(client, "outer", headers=dict(header), request_id="seven").as_numpy("CONTEXT")
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            ask(client, "whole", headers=dict(header))
        server.stop()
    spans, resources = collector.spans()
    assert all(resource["service.name"] == "plates" for resource in resources)
    assert {span["traceId"] for span in spans} == {TRACE}
    by_id = {span["spanId"]: span for span in spans}
    assert len(by_id) == len(spans) == 12

    def path(span):
        parent = by_id.get(span.get("parentSpanId"))
        return (path(parent) if parent else []) + [span["name"]]

    roots = [span for span in spans if span["name"] == "InferRequest"]
    assert [span["parentSpanId"] for span in roots] == [PARENT, PARENT]
    paths = sorted("/".join(path(span)) for span in spans)
    expected = []
    for model in ("outer", "whole"):
        top = "InferRequest/" + model
        expected += ["InferRequest", top]
        expected += [top + "/inner", top + "/inner/queue", top + "/inner/compute"]
    expected += ["InferRequest/outer/queue", "InferRequest/outer/compute"]
    assert paths == sorted(expected)
    for span in spans:
        parent = by_id.get(span["parentSpanId"])
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        if parent:
            assert int(parent["startTimeUnixNano"]) <= int(span["startTimeUnixNano"])
    outer = next(span for span in spans if span["name"] == "outer")
    assert attributes(outer)["triton.request_id"] == "seven"
    assert attributes(outer)["triton.model_version"] == "1"
    # What the model in Python was told is its own span.
    told = json.loads(context[0])["traceparent"]
    assert told == "00-%s-%s-01" % (TRACE, outer["spanId"])


def test_a_failed_request_says_so(repository, collector):
    flags = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=1"]
    flags.append("opentelemetry,url=%s" % collector.url)
    with Server(repository, *["--trace-config=%s" % flag for flag in flags]) as server:
        with httpclient.InferenceServerClient(server.url) as client:
            with pytest.raises(InferenceServerException):
                ask(client, "failing")
        server.stop()
    spans, _ = collector.spans()
    (failed,) = [span for span in spans if span["name"] == "failing"]
    assert failed["status"]["code"] == 2 and "failed" in failed["status"]["message"]
    (root,) = [span for span in spans if span["name"] == "InferRequest"]
    assert "parentSpanId" not in root


@pytest.mark.parametrize("trusted", [True, False])
def test_spans_over_tls(repository, tmp_path, monkeypatch, trusted):
    authority = Authority(tmp_path / "signer", "one")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.root))
    signer = authority if trusted else Authority(tmp_path / "other", "other")
    collector = Collector(signer.sign("collector"))
    flags = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=1"]
    flags.append("opentelemetry,url=%s" % collector.url)
    try:
        with Server(repository, *["--trace-config=%s" % flag for flag in flags]) as server:
            with httpclient.InferenceServerClient(server.url) as client:
                ask(client, "inner")
            server.stop()
        spans, _ = collector.spans()
        assert bool(spans) == trusted
        assert ("traces do not get to" in server.log()) != trusted
    finally:
        collector.close()
