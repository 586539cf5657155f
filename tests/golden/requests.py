"""The requests of the recording, and the repository that they are sent to."""

import gzip
import json
import zlib

from golden import classes, sequences
from harness import write_model
from models import IDENTITY_MODEL, config

PAIR = """
    backend: "python"
    input [
      { name: "A" data_type: TYPE_FP32 dims: [ -1 ] },
      { name: "B" data_type: TYPE_INT32 dims: [ 2 ] optional: true }
    ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""

# Fails with the code that its input says.
FAILING = """
    import triton_python_backend_utils as pb_utils

    NAMES = ["UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED"]

    class TritonPythonModel:
        def execute(self, requests):
            E = pb_utils.TritonError
            codes = [int(pb_utils.get_input_tensor_by_name(r, "IN").as_numpy()[0]) for r in requests]
            errors = [E("boom", getattr(E, NAMES[code])) for code in codes]
            return [pb_utils.InferenceResponse(error=error) for error in errors]
"""

# As many responses as the input says; a negative number ends them with an error.
MANY = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                count = int(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0])
                sender = request.get_response_sender()
                for number in range(abs(count)):
                    tensor = pb_utils.Tensor("OUT", np.array([number], np.int32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                if count < 0:
                    error = pb_utils.TritonError("boom", pb_utils.TritonError.INVALID_ARG)
                    sender.send(pb_utils.InferenceResponse(error=error))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

NUMBERS = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
NUMBERS += ["FP16", "FP32", "FP64"]


def repository(folder):
    """Models that both servers can serve."""
    identity = {"model.py": IDENTITY_MODEL}
    write_model(folder, "m", config("python", max_batch_size=4, dims="[ 2 ]"), identity)
    write_model(folder, "words", config("python", "STRING", "[ 2 ]", 0), identity)
    pair = IDENTITY_MODEL.replace('"IN"', '"A"')
    write_model(folder, "pair", PAIR, {"model.py": pair})
    write_model(folder, "failing", config("python", "INT32", "[ 1 ]", 0), {"model.py": FAILING})
    decoupled = "model_transaction_policy { decoupled: true }"
    many = config("python", "INT32", "[ 1 ]", 0, decoupled)
    write_model(folder, "many", many, {"model.py": MANY})
    grid = config("python", "INT32", "[ -1, 2, -1 ]", 4)
    write_model(folder, "grid", grid, identity)
    for number in NUMBERS:
        write_model(folder, number.lower(), config("python", number, "[ -1 ]", 0), identity)
    classes.repository(folder)
    sequences.repository(folder)


def requests():
    """Name, method, path, headers and body of every request."""
    yield from _routes()
    yield from _json_bodies()
    yield from _binary_bodies()
    yield from _numbers()
    yield from _generate()
    yield from _compression()
    yield from _classes()
    yield from _repository()
    yield from _trace_settings()
    yield from _log_settings()


def _routes():
    for path in (
        "v2/health/live", "v2/health/ready", "v2/models/m/ready", "v2/models/m/versions/1/ready",
        "v2/models/x/ready", "v2/models/m/versions/7/ready", "v2/models/m", "v2/models/pair",
        "v2/models/m/versions/1", "v2/models/x", "v2/models/m/versions/7", "v2/models/m/config",
        "v2/models/words/config", "v2/models/x/config", "v2/models/x/stats", "v2/models/m/versions/7/stats",
        "v2/models/m/nonsense", "v2/nonsense", "v3", "", "v2/models/m/versions/x", "v2/models/m/versions/0",
        "v2/models/m/infer", "v2/models/m/versions/1/infer", "v2/models//infer",
    ):
        yield "GET " + path, "GET", "/" + path, {}, b""
    for path in ("v2/health/live", "v2/models/m", "v2/models/m/ready", "v2/models/m/config", "v2"):
        yield "POST " + path, "POST", "/" + path, {}, b"{}"
    for path in ("v2/models/x/infer", "v2/models/m/versions/7/infer", "v2/models/m/versions/x/infer"):
        yield "POST " + path, "POST", "/" + path, {}, _text(_tensor())


def _tensor(**changes):
    tensor = {"name": "IN", "shape": [1, 2], "datatype": "FP32", "data": [1, 2.5]}
    tensor.update(changes)
    return {key: value for key, value in tensor.items() if value is not None}


def _text(*tensors, **more):
    return json.dumps({"inputs": list(tensors), **more}).encode()


def _json_bodies():
    one = _tensor()
    bodies = {
        "good": _text(one),
        "good, nested": _text(_tensor(data=[[1, 2]])),
        "good, id": _text(one, id="seven"),
        "good, output named": _text(one, outputs=[{"name": "OUT"}]),
        "good, two rows": _text(_tensor(shape=[2, 2], data=[1, 2, 3, 4])),
        "no inputs member": b"{}",
        "no inputs": _text(),
        "inputs no list": b'{"inputs":{}}',
        "inputs a number": b'{"inputs":7}',
        "input no object": b'{"inputs":[7]}',
        "empty body": b"",
        "no JSON": b"hello",
        "cut JSON": b'{"inputs":[',
        "array": b"[]",
        "string": b'"inputs"',
        "number": b"7",
        "null": b"null",
        "trailing text": _text(one) + b"x",
        "trailing comma": b'{"inputs":[],}',
        "single quotes": b"{'inputs':[]}",
        "unknown input": _text(_tensor(name="X")),
        "input twice": _text(one, one),
        "surplus input": _text(one, _tensor(name="X")),
        "no name": _text(_tensor(name=None)),
        "name a number": _text(_tensor(name=7)),
        "no datatype": _text(_tensor(datatype=None)),
        "datatype unknown": _text(_tensor(datatype="FLOAT")),
        "datatype wrong": _text(_tensor(datatype="INT32", data=[1, 2])),
        "datatype a number": _text(_tensor(datatype=7)),
        "no shape": _text(_tensor(shape=None)),
        "shape no list": _text(_tensor(shape=2)),
        "shape of strings": _text(_tensor(shape=["1", "2"])),
        "shape of fractions": _text(_tensor(shape=[1.5, 2])),
        "shape negative": _text(_tensor(shape=[1, -2])),
        "shape empty": _text(_tensor(shape=[])),
        "shape too short": _text(_tensor(shape=[2])),
        "shape too long": _text(_tensor(shape=[1, 1, 2])),
        "shape wrong": _text(_tensor(shape=[1, 3], data=[1, 2, 3])),
        "shape of zero rows": _text(_tensor(shape=[0, 2], data=[])),
        "batch too large": _text(_tensor(shape=[5, 2], data=[0] * 10)),
        "no data": _text(_tensor(data=None)),
        "data no list": _text(_tensor(data=7)),
        "data empty": _text(_tensor(data=[])),
        "data too short": _text(_tensor(data=[1])),
        "data too long": _text(_tensor(data=[1, 2, 3])),
        "data of strings": _text(_tensor(data=["a", "b"])),
        "data of nulls": _text(_tensor(data=[None, None])),
        "data of objects": _text(_tensor(data=[{}, {}])),
        "data of booleans": _text(_tensor(data=[True, False])),
        "output unknown": _text(one, outputs=[{"name": "X"}]),
        "output without name": _text(one, outputs=[{}]),
        "outputs no list": _text(one, outputs=7),
        "outputs empty": _text(one, outputs=[]),
        "id a number": _text(one, id=7),
        "parameters no object": _text(one, parameters=7),
        "parameter a list": _text(one, parameters={"x": [1]}),
        "parameter reserved": _text(one, parameters={"triton_x": 1}),
        "parameters of all types": _text(one, parameters={"a": 1, "b": "x", "c": True, "d": 1.5}),
        "priority negative": _text(one, parameters={"priority": -1}),
        "priority a string": _text(one, parameters={"priority": "high"}),
        "timeout a string": _text(one, parameters={"timeout": "soon"}),
        "sequence_id true": _text(one, parameters={"sequence_id": True}),
        "sequence_start 1": _text(one, parameters={"sequence_start": 1}),
        "binary_data_output 1": _text(one, parameters={"binary_data_output": 1}),
        "binary_data_size a string": _text(_tensor(data=None, parameters={"binary_data_size": "8"})),
        "binary_data_size and data": _text(_tensor(parameters={"binary_data_size": 8})),
    }
    for name, body in bodies.items():
        yield "json: " + name, "POST", "/v2/models/m/infer", {}, body
    words = {
        "good": {"data": ["a", "жук"]},
        "numbers": {"data": [1, 2]},
        "too few": {"data": ["a"]},
        "too many": {"data": ["a", "b", "c"]},
        "nested": {"data": [["a"], ["b"]]},
    }
    for name, changes in words.items():
        body = _text(_tensor(shape=[2], datatype="BYTES", **changes))
        yield "words: " + name, "POST", "/v2/models/words/infer", {}, body
    a = _tensor(name="A", shape=[2])
    b = _tensor(name="B", shape=[2], datatype="INT32", data=[1, 2])
    for name, tensors in {"both": [a, b], "one": [a], "other": [b], "three": [a, b, one]}.items():
        yield "pair: " + name, "POST", "/v2/models/pair/infer", {}, _text(*tensors)


def _binary(size, tail, length=None, **changes):
    parameters = {"binary_data_size": size}
    text = _text(_tensor(data=None, parameters=parameters, **changes))
    length = str(len(text)) if length is None else length
    return {"Inference-Header-Content-Length": length}, text + tail


def _binary_bodies():
    eight = b"\0\0\x80\x3f\0\0\0\x40"
    cases = {
        "good": _binary(8, eight),
        "short": _binary(8, eight[:4]),
        "long": _binary(8, eight + b"x"),
        "size too small": _binary(4, eight[:4]),
        "size too large": _binary(12, eight + b"1234"),
        "size negative": _binary(-8, eight),
        "size zero": _binary(0, b""),
        "size a fraction": _binary(8.5, eight),
        "size overflows": _binary(2**64, eight),
        "header beyond the body": _binary(8, eight, "100000"),
        "header negative": _binary(8, eight, "-1"),
        "header no number": _binary(8, eight, "many"),
        "header zero": _binary(8, eight, "0"),
        "header too small": _binary(8, eight, "10"),
        "header empty": _binary(8, eight, ""),
        "no header": ({}, _binary(8, eight)[1]),
    }
    for name, (headers, body) in cases.items():
        yield "binary: " + name, "POST", "/v2/models/m/infer", headers, body
    strings = {
        "good": b"\1\0\0\0a\0\0\0\0",
        "length cut": b"\1\0\0\0a\1\0",
        "element cut": b"\1\0\0\0a\5\0\0\0b",
        "length too large": b"\xff\xff\xff\xffab",
        "too few": b"\1\0\0\0a",
        "too many": b"\1\0\0\0a" * 3,
        "nothing": b"",
    }
    for name, tail in strings.items():
        headers, body = _binary(len(tail), tail, shape=[2], datatype="BYTES")
        yield "strings: " + name, "POST", "/v2/models/words/infer", headers, body
    raw = {"good": eight, "short": eight[:7], "long": eight * 9, "empty": b""}
    for name, body in raw.items():
        headers = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
        yield "raw: " + name, "POST", "/v2/models/m/infer", headers, body
        yield "raw strings: " + name, "POST", "/v2/models/words/infer", headers, body
        yield "raw pair: " + name, "POST", "/v2/models/pair/infer", headers, body


def _numbers():
    values = ["0", "1", "-1", "2.5", "true", '"a"', "null", "256", "65536", "4294967296", "1e3"]
    values += ["9223372036854775807", "9223372036854775808", "18446744073709551616", "1e400"]
    for number in NUMBERS:
        for value in values:
            text = '{"inputs":[{"name":"IN","shape":[1],"datatype":"%s","data":[%s]}]}'
            body = (text % (number, value)).encode()
            yield "%s: %s" % (number, value), "POST", "/v2/models/%s/infer" % number.lower(), {}, body


def _generate():
    """Bodies by model, for both routes."""
    two = '"IN":["a","b"]'
    bodies = {
        "words": [
            "{%s}" % two, '{%s,"id":"7","x":1,"y":true,"z":1.5,"s":"t"}' % two, '{"IN":"a"}',
            '{"IN":["a"]}', '{"IN":[["a","b"]]}', '{"IN":[["a"],["b"]]}', '{"IN":[1,2]}',
            '{"IN":null}', '{"IN":{"a":1}}', "{}", "", "[]", "7", "{", '{%s,"x":[1]}' % two,
            '{%s,"x":{}}' % two, '{%s,"x":null}' % two, '{%s,"id":7}' % two, '{%s,"id":""}' % two,
            '{"parameters":{%s,"q":3}}' % two, '{%s,"parameters":7}' % two,
            '{%s,"triton_x":7}' % two, '{"parameters":{"parameters":{%s}}}' % two,
            '{"parameters":{"IN":"a"}}', '{%s,"sequence_id":7,"priority":"x"}' % two,
            "{%s,%s}" % (two, two), '{%s,"x":1,"x":2}' % two, '{%s}x' % two,
        ],
        "m": ['{"IN":%s}' % data for data in ("[1,2]", "[1,2,3,4]", "[1,2,3]", "1", '["a","b"]', "[]")],
        "fp32": ['{"IN":%s}' % data for data in ("[1,2,3]", "1", "[]", "true", "[true]", "[[1,2]]")],
        "int8": ['{"IN":%s}' % data for data in ("[1,300]", "1.5", '"1"')],
        "bool": ['{"IN":%s}' % data for data in ("[true,false]", "true", "1")],
        "fp16": ['{"IN":[1,2]}'],
        "grid": ['{"IN":%s}' % data for data in ("[1,2]", "[1,2,3,4]", "[1,2,3]")],
        "pair": ['{"A":[1,2]}', '{"A":[1,2],"B":[1,2]}', '{"A":1,"B":1}'],
        "failing": ['{"IN":%d}' % code for code in range(6)],
        "many": ['{"IN":%d}' % count for count in (0, 1, 2, -1, -2)],
        "nothing": ["{}"],
        "words/versions/1": ["{%s}" % two],
        "words/versions/3": ["{%s}" % two],
    }
    for route in ("generate", "generate_stream"):
        for model, texts in bodies.items():
            for text in texts:
                name = "%s %s: %s" % (route, model, text)
                yield name, "POST", "/v2/models/%s/%s" % (model, route), {}, text.encode()
        for encoding in ("gzip", "identity", "br"):
            name = "%s encoded: %s" % (route, encoding)
            headers = {"Content-Encoding": encoding}
            yield name, "POST", "/v2/models/words/" + route, headers, b"{%s}" % two.encode()
        yield "GET " + route, "GET", "/v2/models/words/" + route, {}, b""


def _compression():
    text = _text(_tensor())
    both = {"gzip": gzip.compress(text, mtime=0), "deflate": zlib.compress(text)}
    sent = {
        "gzip": ("gzip", both["gzip"]),
        "deflate": ("deflate", both["deflate"]),
        "gzip as deflate": ("deflate", both["gzip"]),
        "deflate as gzip": ("gzip", both["deflate"]),
        "without its header": ("deflate", both["deflate"][2:-4]),
        "broken": ("gzip", b"hello"),
        "cut": ("gzip", both["gzip"][:-20]),
        "followed by more": ("gzip", both["gzip"] + b"xx"),
        "empty": ("gzip", b""),
        "capital letters": ("GZIP", both["gzip"]),
        "unknown": ("br", text),
        "two": ("gzip, deflate", both["gzip"]),
        "identity": ("identity", text),
    }
    for name, (encoding, body) in sent.items():
        yield "compressed: " + name, "POST", "/v2/models/m/infer", {"Content-Encoding": encoding}, body
    headers, body = _binary(8, b"\0\0\x80\x3f\0\0\0\x40")
    headers["Content-Encoding"] = "gzip"
    yield "compressed: binary", "POST", "/v2/models/m/infer", headers, gzip.compress(body, mtime=0)
    for wish in (
        "gzip", "deflate", "gzip, deflate", "deflate, gzip", "gzip;q=0.5, deflate", "identity", "*",
        "br", "gzip;q=0", "gzip;q=0.5,deflate;q=0.5", "identity;q=0.5, gzip;q=0.1", "GZIP", "",
        "gzip ; q=1", "gzip;q=x",
    ):
        yield "accepting: " + wish, "POST", "/v2/models/m/infer", {"Accept-Encoding": wish}, text
    yield "accepting: error", "POST", "/v2/models/m/infer", {"Accept-Encoding": "gzip"}, b"{}"
    binary = {**_binary(8, bytes(8))[0], "Accept-Encoding": "gzip"}
    yield "accepting: binary", "POST", "/v2/models/m/infer", binary, _binary(8, bytes(8))[1]


def _classes():
    for wanted in (1, 2, 9, 0, -1, "1", True, None):
        outputs = [{"name": "OUT", "parameters": {"classification": wanted}}]
        body = _text(_tensor(), outputs=outputs)
        yield "classes: %r" % (wanted,), "POST", "/v2/models/m/infer", {}, body
    outputs = [{"name": "OUT", "parameters": {"classification": 1, "binary_data": True}}]
    body = _text(_tensor(), outputs=outputs)
    yield "classes: binary", "POST", "/v2/models/m/infer", {}, body
    tensor = _tensor(shape=[3], datatype="INT8", data=[3, -1, 7])
    outputs = [{"name": "OUT", "parameters": {"classification": 2}}]
    yield "classes: int8", "POST", "/v2/models/int8/infer", {}, _text(tensor, outputs=outputs)


def _repository():
    """The index without what differs from start to start, and control that the mode does not allow."""
    for body in (b'{"ready":7}', b'{"ready":"true"}', b"hello", b"[]", b'{"ready":'):
        name = "index: " + body.decode()
        yield name, "POST", "/v2/repository/index", {}, body
    yield "GET index", "GET", "/v2/repository/index", {}, b""
    for path in ("models/m/load", "models/m/unload", "models/x/load", "r/models/m/load",
                 "r/models/m/unload", "models//load", "models/m/reload"):
        for body in (b"", b"{}", b"hello"):
            name = "repository/%s: %s" % (path, body.decode())
            yield name, "POST", "/v2/repository/" + path, {}, body


def _trace_settings():
    """Each change is taken back, so that the answers do not depend on what was asked before."""
    changes = (
        b"", b"{}", b"hello", b"7", b'{"trace_rate":5}', b'{"trace_rate":"abc"}', b'{"trace_rate":"-1"}',
        b'{"trace_rate":"7"}', b'{"trace_count":"-2"}', b'{"trace_count":"3"}', b'{"trace_level":"OFF"}',
        b'{"trace_level":["OFF","TIMESTAMPS"]}', b'{"trace_level":["nonsense"]}', b'{"trace_level":[7]}',
        b'{"trace_level":[]}', b'{"trace_file":"/tmp/x"}', b'{"log_frequency":"x"}',
        b'{"log_frequency":"9"}', b'{"nonsense":"1"}', b'{"trace_level":["TIMESTAMPS"]}', b'{"trace_level":["MAX"]}',
    )
    back = b'{"trace_level":null,"trace_rate":null,"trace_count":null,"log_frequency":null}'
    for path in ("v2/trace/setting", "v2/models/m/trace/setting"):
        yield "GET " + path, "GET", "/" + path, {}, b""
        for change in changes:
            yield "%s: %s" % (path, change.decode()), "POST", "/" + path, {}, change
            yield "%s: after %s" % (path, change.decode()), "POST", "/" + path, {}, back
    path = "v2/models/x/trace/setting"
    yield "GET " + path, "GET", "/" + path, {}, b""
    yield path, "POST", "/" + path, {}, b'{"trace_rate":"7"}'


def _log_settings():
    changes = (
        b"", b"{}", b"hello", b"[]", b'{"log_info":7}', b'{"log_info":null}', b'{"log_warning":"x"}',
        b'{"log_verbose_level":-1}', b'{"log_verbose_level":"1"}', b'{"log_verbose_level":true}',
        b'{"log_format":"x"}', b'{"log_format":7}', b'{"log_format":"ISO8601"}', b'{"log_file":"/tmp/x"}',
        b'{"nonsense":1}', b'{"log_error":false}',
    )
    back = b'{"log_info":true,"log_warning":true,"log_error":true,"log_verbose_level":0,"log_format":"default"}'
    yield "GET v2/logging", "GET", "/v2/logging", {}, b""
    for change in changes:
        yield "logging: " + change.decode(), "POST", "/v2/logging", {}, change
        yield "logging: after " + change.decode(), "POST", "/v2/logging", {}, back
