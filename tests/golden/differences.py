"""Where Nereid answers otherwise than Triton on purpose, by reason: the list behind
docs/compatibility.md."""

import base64
import json
import struct
from pathlib import Path

from golden.sequences import NAMED, scenarios

# The careful server's answers have other names than those of the other one.
RECORDED, GUARDED = (
    json.loads(Path(__file__).with_name(file).read_text())
    for file in ("triton-2.51.json", "guarded-2.51.json")
)

JSON, TEXT = "application/json", "text/plain"
EVENTS = "text/event-stream; charset=utf-8"
BROKEN = "failed to decompress the request body: "
UNKNOWN = "[request id: <id_unknown>] "
SHAPE = "Unable to parse 'data': Shape does not match true shape of 'data' field"
TOO_FEW = "Failed to parse 'data' field: shape does not match true shape"
HEADER = "Unable to parse Inference-Header-Content-Length, got: "
SIZE = UNKNOWN + "input byte size mismatch for input 'IN' for model 'm'. Expected 8, got "
ROWS = {"name": "OUT", "datatype": "FP32", "shape": [0, 2], "data": []}
EMPTY_HEADER = {
    "name": "OUT", "datatype": "BYTES", "shape": [1], "data": ['{"my-own": ""}']
}
NOTHING = {"OUT": [], "model_name": "m", "model_version": "1"}
COUNT = (
    UNKNOWN + "expected %s but got %d inputs for model '%s'. Got input(s) [%s], but missing "
    "required input(s) [%s]. Please provide all required input(s)."
)
STRINGS = UNKNOWN + "expected 2 string elements for inference input 'IN' for model 'words', got "


def error(status, text, kind=JSON):
    return [status, kind, {"error": text}]


def _failing():
    """The model's errors with the statuses of their codes."""
    for code, status in ((1, 500), (2, 404), (4, 503), (5, 501)):
        yield 'generate failing: {"IN":%d}' % code, error(status, "boom")
        boom = 'data: {"error":"boom"}\n\n'
        yield 'generate_stream failing: {"IN":%d}' % code, [status, EVENTS, boom]


WRONG_TYPE = UNKNOWN + (
    "sequence batching control 'CORRID' data-type is '%s', but model '%s' expects '%s'"
)


def _wrong_types(kind, *types):
    """Three requests each whose correlation ID has not the type that the model wants."""
    text = WRONG_TYPE % types
    yield "sequence over HTTP: %s, of the other type" % kind, [error(400, text)] * 3
    yield "sequence over gRPC: %s, of the other type" % kind, [["INVALID_ARGUMENT", text]] * 3


def _named_sequences():
    """What the model sees of requests whose correlation IDs are texts."""
    for name, model, requests in scenarios():
        recorded = RECORDED[name]
        padded = ["number of string elements 2" in json.dumps(answer) for answer in recorded]
        if model == NAMED and any(padded) and "other type" not in name:
            answers = zip(requests, padded, recorded)
            yield name, [_seen(name, step) if bad else answer for step, bad, answer in answers]


def _seen(name, step):
    numbers = [7, int(step.get("sequence_start", 0)), 1, int(step.get("sequence_end", 0))]
    text = step["sequence_id"]
    about = {"model_name": NAMED, "model_version": "1"}
    if "HTTP" in name:
        out = {"name": "OUT", "datatype": "INT32", "shape": [1, 4], "data": numbers}
        named = {"name": "ID", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
        return [200, JSON, {**about, "outputs": [out, named]}]
    out = {"name": "OUT", "datatype": "INT32", "shape": ["1", "4"]}
    named = {"name": "ID", "datatype": "BYTES", "shape": ["1", "1"]}
    raw = [struct.pack("<4i", *numbers), struct.pack("<i", len(text)) + text.encode()]
    raw = [base64.b64encode(tensor).decode() for tensor in raw]
    return {**about, "outputs": [out, named], "raw_output_contents": raw}


def _reserved():
    """Headers that are not handed on."""
    for name in ("timeout", "priority", "triton_x", "headers"):
        text = "Header '%s' is reserved for Triton usage and cannot be forwarded." % name
        yield "HTTP infer: " + name, error(400, text)
        yield "gRPC infer: " + name, ["INVALID_ARGUMENT", text]


REASONS = {
    "Triton 2.73 answers so; the recording is of 2.51.": {
        "GET v2/models/x/ready": error(404, "Request for unknown model: 'x' is not found", TEXT),
        "GET v2/models/m/versions/7/ready": error(
            404, "Request for unknown model: 'm' version 7 is not found", TEXT
        ),
        "json: data empty": error(500, TOO_FEW),
        "json: data too short": error(500, TOO_FEW),
        "binary: header no number": error(400, HEADER + "many", TEXT),
        "binary: header empty": error(400, HEADER, TEXT),
        "GET v2/models/x/trace/setting": error(404, "Request for unknown model: 'x' is not found"),
        "v2/models/x/trace/setting": error(404, "Request for unknown model: 'x' is not found"),
        **dict(_wrong_types("number", "BYTES", "sequence", "UINT64")),
        **dict(_reserved()),
    },
    "Texts as correlation IDs reach Python models; Triton pads them, and its Python backend refuses "
    "that.": {
        **dict(_named_sequences()),
        **dict(_wrong_types("text", "UINT64", NAMED, "BYTES")),
    },
    "Trace settings of a model that there is not are not found over gRPC, too.": {
        "gRPC TraceSetting x: %s" % change: [
            "NOT_FOUND", "Request for unknown model: 'x' is not found"
        ]
        for change in ({}, {"trace_rate": ["7"]})
    },
    "A body that is no JSON is refused, also where it would not matter.": {
        "repository/models/m/unload: hello": error(
            500, "failed to parse the request JSON buffer: Invalid value. at 0"
        ),
    },
    "A negative rate of traces is refused, not taken for a huge one.": {
        '%s/trace/setting: {"trace_rate":"-1"}' % path: error(
            400, "Unable to parse 'trace_rate', got: -1"
        )
        for path in ("v2", "v2/models/m")
    } | {
        "gRPC TraceSetting %s: {'trace_rate': ['-1']}" % model: [
            "INVALID_ARGUMENT", "Unable to parse 'trace_rate', got: -1"
        ]
        for model in ("", "m")
    },
    "The input of a raw request is called by its name, not `raw_input`.": {
        "json: empty body": error(400, SIZE + "0"),
        "binary: header zero": error(400, SIZE + "112"),
        "raw: short": error(400, SIZE + "7"),
        "raw: long": error(400, SIZE + "72"),
        "raw: empty": error(400, SIZE + "0"),
    },
    "Inputs are listed in the client's order, with both brackets.": {
        "json: surplus input": error(400, COUNT % ("1 inputs", 2, "m", "'IN','X'", "")),
        "pair: three": error(
            400, COUNT % ("number of inputs between 1 and 2", 3, "pair", "'A','B','IN'", "")
        ),
    },
    "A model never runs without an input that it requires; in Triton it may if as many others are "
    "there.": {
        "pair: other": error(
            400, COUNT % ("number of inputs between 1 and 2", 1, "pair", "'B'", "'A'")
        ),
    },
    "A scalar has one element, and no rows are no bytes.": {
        "json: shape empty": error(500, SHAPE),
        "json: shape of zero rows": [
            200, JSON, {"model_name": "m", "model_version": "1", "outputs": [ROWS]}
        ],
        'generate m: {"IN":[]}': [200, JSON, NOTHING],
        'generate_stream m: {"IN":[]}': [
            200, EVENTS, "data: %s\n\n" % json.dumps(NOTHING, separators=(",", ":"))
        ],
    },
    "JSON does not end at a zero byte.": {
        "binary: no header": error(
            500,
            "failed to parse the request JSON buffer: The document root must not be followed by "
            "other values. at 104",
        ),
    },
    "BYTES tensors are checked for every backend, and lengths cannot overflow.": {
        "strings: element cut": error(400, STRINGS + "1"),
        "strings: length too large": error(400, STRINGS + "0"),
    },
    "Through `generate`, an error of the model has the status of its code; Triton has forgotten "
    "the code by then and says 400.": dict(_failing()),
    "What cannot be decompressed is named; Triton goes on with an empty or a cut body.": {
        "compressed: without its header": error(400, BROKEN + "corrupt deflate stream", TEXT),
        "compressed: broken": error(400, BROKEN + "corrupt deflate stream", TEXT),
        "compressed: cut": error(400, BROKEN + "incomplete deflate stream", TEXT),
    },
    "Spaces around the value of a header are not part of it (RFC 9110).": {
        "HTTP infer: empty": [
            200, JSON, {"model_name": "seen", "model_version": "1", "outputs": [EMPTY_HEADER]}
        ],
    },
    "Names of encodings have no case, and spaces around them do not matter (RFC 9110).": {
        "compressed: capital letters": RECORDED["compressed: gzip"],
        "accepting: GZIP": RECORDED["accepting: gzip"],
        "accepting: gzip ; q=1": RECORDED["accepting: gzip"],
    },
}

DIFFERENT = {name: answer for answers in REASONS.values() for name, answer in answers.items()}
