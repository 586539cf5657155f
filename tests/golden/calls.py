"""gRPC calls and uses of shared memory, made one after the other, and what came of them."""

import json

import grpc
import numpy as np
import tritonclient.utils.shared_memory as shm
from golden import classes, sequences
from golden.exchange import ask, call, set_parameter, stream
from golden.settings import settings
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

EIGHT = b"\0\0\x80\x3f\0\0\0\x40"
REGION, OTHER = "/nereid_golden", "/nereid_golden_out"


def calls(http_port, grpc_port):
    """Every answer by its name."""
    answers = {}
    with grpc.insecure_channel("127.0.0.1:%d" % grpc_port) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name, method, message in (*_plain(), *settings()):
            answers["gRPC " + name] = call(getattr(stub, method), message)
        for name, requests in _streams():
            answers["stream " + name] = stream(stub, requests)
        answers.update(classes.answers(http_port, stub))
        answers.update(sequences.answers(http_port, stub))
        regions = [shm.create_shared_memory_region(key, key, 64) for key in (REGION, OTHER)]
        try:
            shm.set_shared_memory_region(regions[0], [np.float32([1, 2])])
            for name, method, message in _shared_memory():
                answers["gRPC " + name] = call(getattr(stub, method), message)
            for name, *request in _shared_memory_over_http():
                answers["HTTP " + name] = ask(http_port, *request)
        finally:
            stub.SystemSharedMemoryUnregister(messages.SystemSharedMemoryUnregisterRequest())
            for region in regions:
                shm.destroy_shared_memory_region(region)
    return answers


def _infer(model="m", raw=(EIGHT,), shape=(1, 2), datatype="FP32", name="IN", **more):
    made = messages.ModelInferRequest(
        model_name=model, raw_input_contents=raw, id=more.get("id", ""),
        model_version=more.get("version", ""),
    )
    tensor = made.inputs.add(name=name, datatype=datatype, shape=shape)
    for key, value in more.get("input", {}).items():
        set_parameter(tensor.parameters[key], value)
    for field, values in more.get("contents", {}).items():
        getattr(tensor.contents, field).extend(values)
    if "output" in more:
        output = made.outputs.add(name=more.get("output_name", "OUT"))
        for key, value in more["output"].items():
            set_parameter(output.parameters[key], value)
    for key, value in more.get("parameters", {}).items():
        set_parameter(made.parameters[key], value)
    return made


def _plain():
    for method, message in (
        ("ServerLive", messages.ServerLiveRequest()),
        ("ServerReady", messages.ServerReadyRequest()),
        ("ModelReady", messages.ModelReadyRequest(name="m")),
        ("ModelReady", messages.ModelReadyRequest(name="m", version="1")),
        ("ModelMetadata", messages.ModelMetadataRequest(name="m")),
        ("ModelMetadata", messages.ModelMetadataRequest(name="x")),
        ("ModelMetadata", messages.ModelMetadataRequest(name="m", version="x")),
        ("ModelMetadata", messages.ModelMetadataRequest(name="m", version="7")),
        ("ModelConfig", messages.ModelConfigRequest(name="x")),
        ("ModelStatistics", messages.ModelStatisticsRequest(name="x")),
        ("RepositoryIndex", messages.RepositoryIndexRequest(repository_name="x")),
    ):
        about = ",".join("%s=%s" % (field.name, value) for field, value in message.ListFields())
        yield "%s %s" % (method, about), method, message
    bad = {"a": 1, "b": "x", "c": True, "d": 1.5}
    both = {"fp32_contents": [1, 2], "int_contents": [1]}
    for name, message in {
        "good": _infer(),
        "id": _infer(id="seven"),
        "output named": _infer(output={}),
        "output unknown": _infer(output={}, output_name="X"),
        "typed": _infer(raw=(), contents={"fp32_contents": [1, 2]}),
        "typed and raw": _infer(contents={"fp32_contents": [1, 2]}),
        "typed wrong": _infer(raw=(), contents={"int_contents": [1, 2]}),
        "typed twice": _infer(raw=(), contents=both),
        "typed short": _infer(raw=(), contents={"fp32_contents": [1]}),
        "typed int8": _infer("int8", (), (2,), "INT8", contents={"int_contents": [1, 300]}),
        "typed uint16": _infer("uint16", (), (1,), "UINT16", contents={"uint_contents": [70000]}),
        "typed bool": _infer("bool", (), (2,), "BOOL", contents={"bool_contents": [True, False]}),
        "typed fp16": _infer("fp16", (), (1,), "FP16", contents={"fp32_contents": [1]}),
        "typed bytes": _infer("words", (), (2,), "BYTES", contents={"bytes_contents": [b"a", b""]}),
        "no data": _infer(raw=()),
        "raw short": _infer(raw=(EIGHT[:4],)),
        "raw long": _infer(raw=(EIGHT + b"x",)),
        "raw too many": _infer(raw=(EIGHT, EIGHT)),
        "shape negative": _infer(shape=(1, -2)),
        "shape empty": _infer(shape=()),
        "shape wrong": _infer(shape=(1, 3)),
        "batch too large": _infer(shape=(5, 2), raw=(EIGHT * 5,)),
        "datatype wrong": _infer(datatype="INT32"),
        "datatype unknown": _infer(datatype="FLOAT"),
        "input unknown": _infer(name="X"),
        "model unknown": _infer("x"),
        "version unknown": _infer(version="7"),
        "version no number": _infer(version="x"),
        "decoupled": _infer("many", (b"\1\0\0\0",), (1,), "INT32"),
        "parameters": _infer(parameters=bad),
        "reserved": _infer(parameters={"triton_x": True}),
        "priority negative": _infer(parameters={"priority": -1}),
        "timeout a text": _infer(parameters={"timeout": "soon"}),
        "sequence_id a double": _infer(parameters={"sequence_id": 1.5}),
        "sequence_start a number": _infer(parameters={"sequence_start": 1}),
        "classes": _infer(output={"classification": 1}),
        "classes, more than there are": _infer(output={"classification": 9}),
        "classes: none": _infer(output={"classification": 0}),
        "classes a text": _infer(output={"classification": "1"}),
        "error of the model": _infer("failing", (b"\4\0\0\0",), (1,), "INT32"),
    }.items():
        yield "infer: " + name, "ModelInfer", message


def _streams():
    number = lambda count: np.int32([count]).tobytes()  # noqa: E731
    ask_many = {"triton_enable_empty_final_response": True}

    def many(count, **more):
        return _infer("many", (number(count),), (1,), "INT32", **more)

    yield "plain", [_infer(id="a"), _infer("words", (b"\0" * 8,), (2,), "BYTES", id="b")]
    yield "refused, then good", [_infer("x", id="a"), _infer(shape=(1, 3), id="b"), _infer(id="c")]
    yield "error of the model", [_infer("failing", (number(4),), (1,), "INT32", id="a")]
    alone = {"sequence_id": 1 << 40}
    unknown = _infer("sequence", (number(7),), (1, 1), "INT32", id="a", parameters=alone)
    yield "a sequence that did not begin", [unknown]
    for count in (0, 1, 2, -1):
        yield "many: %d" % count, [many(count, id="m")]
        yield "many, with the end: %d" % count, [many(count, id="m", parameters=ask_many)]


def _place(region="in", byte_size=8, offset=0):
    places = {"region": region, "byte_size": byte_size, "offset": offset or None}
    return {"shared_memory_" + key: value for key, value in places.items() if value is not None}


def _shared_memory():
    register, status = "SystemSharedMemoryRegister", "SystemSharedMemoryStatus"
    request = messages.SystemSharedMemoryRegisterRequest
    yield "register", register, request(name="in", key=REGION, byte_size=64)
    yield "register again", register, request(name="in", key=REGION, byte_size=64)
    yield "register nothing", register, request(name="x", key="/nereid_nothing", byte_size=64)
    yield "register out", register, request(name="out", key=OTHER, byte_size=64)
    yield "status", status, messages.SystemSharedMemoryStatusRequest()
    yield "status of one", status, messages.SystemSharedMemoryStatusRequest(name="in")
    yield "status of none", status, messages.SystemSharedMemoryStatusRequest(name="x")
    yield "CUDA status", "CudaSharedMemoryStatus", messages.CudaSharedMemoryStatusRequest()
    none = messages.CudaSharedMemoryStatusRequest(name="x")
    yield "CUDA status of none", "CudaSharedMemoryStatus", none
    out = _place("out", 8, 8)
    for name, message in {
        "in": _infer(raw=(), input=_place()),
        "in and out": _infer(raw=(), input=_place(), output=out),
        "out too small": _infer(raw=(), input=_place(), output=_place("out", 4)),
        "out unknown": _infer(raw=(), input=_place(), output=_place("y")),
        "out and classes": _infer(raw=(), input=_place(), output={**out, "classification": 1}),
        "unknown": _infer(raw=(), input=_place("y")),
        "too short": _infer(raw=(), input=_place(byte_size=4)),
        "too long": _infer(raw=(), input=_place(byte_size=65)),
        "offset behind": _infer(raw=(), input=_place(offset=64)),
        "offset too large": _infer(raw=(), input=_place(offset=60)),
        "without size": _infer(raw=(), input=_place(byte_size=None)),
        "without region": _infer(raw=(), input=_place(region=None)),
        "with contents": _infer(raw=(), input=_place(), contents={"fp32_contents": [1, 2]}),
        "region a number": _infer(raw=(), input={"shared_memory_region": 7}),
    }.items():
        yield "shared memory: " + name, "ModelInfer", message


def _shared_memory_over_http():
    for path in ("status", "region/in/status", "region/x/status"):
        for kind in ("system", "cuda"):
            path_of = "/v2/%ssharedmemory/%s" % (kind, path)
            yield path_of, "GET", path_of, {}, b""
    tensor = {"name": "IN", "shape": [1, 2], "datatype": "FP32"}
    for name, given, wanted in (
        ("in", _place(), None),
        ("in and out", _place(), _place("out", 16, 8)),
        ("out too small", _place(), _place("out", 4)),
        ("out unknown", _place(), _place("y")),
        ("out and classes", _place(), {**_place("out"), "classification": 1}),
        ("out and binary", _place(), {**_place("out"), "binary_data": True}),
        ("unknown", _place("y"), None),
        ("too long", _place(byte_size=65), None),
        ("offset negative", _place(offset=-1), None),
        ("region a number", _place(7), None),
    ):
        body = {"inputs": [{**tensor, "parameters": given}]}
        if wanted:
            body["outputs"] = [{"name": "OUT", "parameters": wanted}]
        name = "shared memory: " + name
        yield name, "POST", "/v2/models/m/infer", {}, json.dumps(body).encode()
    for body in ("{}", '{"key":7}', '{"key":"%s"}' % REGION, "", "7"):
        path = "/v2/systemsharedmemory/region/new/register"
        yield "register: " + body, "POST", path, {}, body.encode()
    yield "unregister", "POST", "/v2/systemsharedmemory/region/x/unregister", {}, b""
    yield "unregister all", "POST", "/v2/systemsharedmemory/unregister", {}, b"{}"
