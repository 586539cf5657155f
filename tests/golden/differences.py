"""Where Nereid answers otherwise than Triton on purpose, by reason: the list behind
docs/compatibility.md."""

import json
from pathlib import Path

RECORDED = json.loads(Path(__file__).with_name("triton-2.51.json").read_text())

JSON, TEXT = "application/json", "text/plain"
EVENTS = "text/event-stream; charset=utf-8"
BROKEN = "failed to decompress the request body: "
UNKNOWN = "[request id: <id_unknown>] "
SHAPE = "Unable to parse 'data': Shape does not match true shape of 'data' field"
TOO_FEW = "Failed to parse 'data' field: shape does not match true shape"
HEADER = "Unable to parse Inference-Header-Content-Length, got: "
SIZE = UNKNOWN + "input byte size mismatch for input 'IN' for model 'm'. Expected 8, got "
ROWS = {"name": "OUT", "datatype": "FP32", "shape": [0, 2], "data": []}
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
    "Names of encodings have no case, and spaces around them do not matter (RFC 9110).": {
        "compressed: capital letters": RECORDED["compressed: gzip"],
        "accepting: GZIP": RECORDED["accepting: gzip"],
        "accepting: gzip ; q=1": RECORDED["accepting: gzip"],
    },
}

DIFFERENT = {name: answer for answers in REASONS.values() for name, answer in answers.items()}
