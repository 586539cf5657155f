"""What a server that is told to be careful answers: APIs that want a header, and headers that are
handed on to models.

Which flags it is told so by stands here, too. Of what is allowed only the status is noted: what it
answers is in the other recording.
"""

import json

import grpc
from golden.exchange import ask, call
from harness import write_model
from models import config
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

READ, CONTROL = ("read-key", "one"), ("Control-Key", "two")
PREFIX = "triton-grpc-protocol-"
READABLE = "inference,metadata,model-config,statistics"
CONTROLLED = "model-repository,shared-memory,trace,logging"
FLAGS = [
    "--http-restricted-api=%s:%s=%s" % (READABLE, *READ),
    "--http-restricted-api=%s:%s=%s" % (CONTROLLED, *CONTROL),
    "--http-restricted-api=health:health-key=three",
    "--grpc-restricted-protocol=%s:%s=%s" % (READABLE, *READ),
    "--grpc-restricted-protocol=%s:%s=%s" % (CONTROLLED, "control-key", CONTROL[1]),
    "--grpc-restricted-protocol=health:health-key=three",
    "--http-header-forward-pattern=(?i)^(my-.*|x-part|timeout|priority|triton_.*|headers)$",
    "--grpc-header-forward-pattern=^(my-.*|x-part|timeout|priority|triton_.*|headers)$",
    "--grpc-infer-response-compression-level=high",
]

# Answers with the parameters that it sees.
MODEL = """
    import json
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                seen = json.loads(request.parameters())
                text = json.dumps(dict(sorted(seen.items())))
                tensor = pb_utils.Tensor("OUT", np.array([text.encode()], dtype=np.object_))
                answers.append(pb_utils.InferenceResponse([tensor]))
            return answers
"""


def repository(folder):
    write_model(folder, "seen", config("python", "STRING", "[ 1 ]", 0), {"model.py": MODEL})


def answers(http_port, grpc_port):
    """Every answer by its name."""
    found = {}
    for path, body in _routes():
        for about, headers in _keys():
            name = "HTTP %s: %s" % (path, about)
            answer = ask(http_port, "GET" if body is None else "POST", path, headers, body)
            found[name] = answer if answer[0] == 403 else answer[0]
    for name, headers in _forwarded():
        headers = {READ[0]: READ[1], **headers}
        for route in ("infer", "generate"):
            body = INPUT if route == "infer" else b'{"IN":"a"}'
            found["HTTP %s: %s" % (route, name)] = ask(
                http_port, "POST", "/v2/models/seen/" + route, headers, body
            )
    with grpc.insecure_channel("127.0.0.1:%d" % grpc_port) as channel:
        found.update(_over_grpc(channel))
    return found


TENSOR = {"name": "IN", "shape": [1], "datatype": "BYTES"}
INPUT = json.dumps({"inputs": [{**TENSOR, "data": ["a"]}]}).encode()


def _routes():
    """Paths, and bodies of those that are posted to."""
    for path in (
        "v2", "v2/health/live", "v2/health/ready", "v2/models/seen", "v2/models/seen/ready",
        "v2/models/seen/config", "v2/models/seen/stats", "v2/models/stats", "v2/models/nobody",
        "v2/trace/setting", "v2/models/seen/trace/setting", "v2/logging", "v2/nonsense",
        "v2/systemsharedmemory/status", "v2/cudasharedmemory/status",
    ):
        yield "/" + path, None
    yield "/v2/models/seen/infer", INPUT
    for route in ("generate", "generate_stream"):
        yield "/v2/models/seen/" + route, b'{"IN":"a"}'
    for path in (
        "v2/trace/setting", "v2/logging", "v2/repository/index", "v2/repository/models/seen/load",
        "v2/repository/models/seen/unload", "v2/systemsharedmemory/unregister",
        "v2/cudasharedmemory/unregister", "v2/models/seen/config",
    ):
        yield "/" + path, b"{}"


def _keys():
    """Headers, and what they are about."""
    yield "no key", {}
    for name, value in (READ, CONTROL, ("health-key", "three")):
        yield name, {name: value}
        yield name + ", in capitals", {name.upper(): value}
        yield name + ", another value", {name: value + "x"}
    yield "a key for gRPC", {PREFIX + READ[0]: READ[1]}


def _metadata():
    """The same for gRPC, whose metadata has no capitals."""
    for about, headers in _keys():
        if "capitals" not in about:
            yield about, [(PREFIX + key.lower(), value) for key, value in headers.items()]
    yield "a key for HTTP", [READ]


def _forwarded():
    yield "nothing", {"other": "1"}
    yield "one", {"my-own": "1"}
    yield "several", {"my-own": "1", "my-other": "two", "x-part": "3", "x-part-no": "4"}
    yield "empty", {"my-own": ""}
    yield "no ASCII", {"my-own": "жук".encode()}
    for reserved in ("timeout", "priority", "triton_x", "headers"):
        yield reserved, {reserved: "1"}


def _over_grpc(channel):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    for name, message in _calls():
        for about, metadata in _metadata():
            said = call(getattr(stub, name), message, metadata=metadata)
            # A refusal has a status and a text.
            refused = isinstance(said, list) and said[1].startswith("This protocol")
            yield "gRPC %s: %s" % (name, about), said if refused else "allowed"
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    for about, metadata in _metadata():
        try:
            said = check(b"", metadata=metadata, timeout=60).hex()
        except grpc.RpcError as error:
            said = [error.code().name, error.details()]
        yield "gRPC Check: " + about, said
    key = (PREFIX + READ[0], READ[1])
    for name, headers in _forwarded():
        metadata = [key, *headers.items()]
        if name == "no ASCII":
            metadata = [key, ("my-own-bin", headers["my-own"])]
        yield "gRPC infer: " + name, call(stub.ModelInfer, _infer(), metadata=metadata)
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        said = call(stub.ModelInfer, _infer(), metadata=[key], compression=compression)
        yield "gRPC infer: compressed by %s" % compression.name, said
    twice = [key, ("my-own", "1"), ("my-own", "2")]
    yield "gRPC infer: twice", call(stub.ModelInfer, _infer(), metadata=twice)


def _infer():
    made = messages.ModelInferRequest(model_name="seen", raw_input_contents=[b"\1\0\0\0a"])
    made.inputs.add(**TENSOR)
    return made


def _calls():
    yield "ServerLive", messages.ServerLiveRequest()
    yield "ServerReady", messages.ServerReadyRequest()
    yield "ServerMetadata", messages.ServerMetadataRequest()
    for name, made in (
        ("ModelReady", messages.ModelReadyRequest), ("ModelMetadata", messages.ModelMetadataRequest),
        ("ModelConfig", messages.ModelConfigRequest),
        ("ModelStatistics", messages.ModelStatisticsRequest),
    ):
        yield name, made(name="seen")
    yield "ModelInfer", _infer()
    yield "RepositoryIndex", messages.RepositoryIndexRequest()
    yield "RepositoryModelLoad", messages.RepositoryModelLoadRequest(model_name="seen")
    yield "RepositoryModelUnload", messages.RepositoryModelUnloadRequest(model_name="seen")
    for kind in ("System", "Cuda"):
        for what in ("Status", "Register", "Unregister"):
            name = "%sSharedMemory%s" % (kind, what)
            yield name, getattr(messages, name + "Request")()
    yield "TraceSetting", messages.TraceSettingRequest()
    yield "LogSettings", messages.LogSettingsRequest()
