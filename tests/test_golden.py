"""The same requests, the same answers: compared with a recording from Triton 2.51.

`golden/record.py` makes the recording anew. `DIFFERENT` lists where we answer otherwise on purpose.
"""

import json
from pathlib import Path

import pytest
from golden.calls import calls
from golden.exchange import ask
from golden.requests import repository, requests
from harness import Server

RECORDED = json.loads(Path(__file__).with_name("golden").joinpath("triton-2.51.json").read_text())
REQUESTS = {name: rest for name, *rest in requests()}

JSON, TEXT = "application/json", "text/plain"
EVENTS = "text/event-stream; charset=utf-8"
BROKEN = "failed to decompress the request body: "
UNKNOWN = "[request id: <id_unknown>] "
SHAPE = "Unable to parse 'data': Shape does not match true shape of 'data' field"
TOO_FEW = "Failed to parse 'data' field: shape does not match true shape"
HEADER = "Unable to parse Inference-Header-Content-Length, got: "
SIZE = UNKNOWN + "input byte size mismatch for input 'IN' for model 'm'. Expected 8, got "
ROWS = {"name": "OUT", "datatype": "FP32", "shape": [0, 2], "data": []}
COUNT = (
    UNKNOWN + "expected %s but got %d inputs for model '%s'. Got input(s) [%s], but missing "
    "required input(s) [%s]. Please provide all required input(s)."
)
STRINGS = UNKNOWN + "expected 2 string elements for inference input 'IN' for model 'words', got "


def error(status, text, kind=JSON):
    return [status, kind, {"error": text}]


DIFFERENT = {
    # Triton 2.73 answers so.
    "GET v2/models/x/ready": error(404, "Request for unknown model: 'x' is not found", TEXT),
    "GET v2/models/m/versions/7/ready": error(
        404, "Request for unknown model: 'm' version 7 is not found", TEXT
    ),
    "json: data empty": error(500, TOO_FEW),
    "json: data too short": error(500, TOO_FEW),
    "binary: header no number": error(400, HEADER + "many", TEXT),
    "binary: header empty": error(400, HEADER, TEXT),
    # The input has a name; Triton calls it 'raw_input'.
    "json: empty body": error(400, SIZE + "0"),
    "binary: header zero": error(400, SIZE + "112"),
    "raw: short": error(400, SIZE + "7"),
    "raw: long": error(400, SIZE + "72"),
    "raw: empty": error(400, SIZE + "0"),
    # Names in the client's order, and both brackets.
    "json: surplus input": error(400, COUNT % ("1 inputs", 2, "m", "'IN','X'", "")),
    "pair: three": error(
        400, COUNT % ("number of inputs between 1 and 2", 3, "pair", "'A','B','IN'", "")
    ),
    # Triton lets the model run without its required input.
    "pair: other": error(
        400, COUNT % ("number of inputs between 1 and 2", 1, "pair", "'B'", "'A'")
    ),
    # A scalar has one element, not two; and no rows are no bytes.
    "json: shape empty": error(500, SHAPE),
    "json: shape of zero rows": [
        200, JSON, {"model_name": "m", "model_version": "1", "outputs": [ROWS]}
    ],
    # Triton stops reading JSON at a zero byte.
    "binary: no header": error(
        500,
        "failed to parse the request JSON buffer: The document root must not be followed by other "
        "values. at 104",
    ),
    # Triton leaves some of these to its Python backend, and lets a length overflow.
    "strings: element cut": error(400, STRINGS + "1"),
    "strings: length too large": error(400, STRINGS + "0"),
}


# An error of the model has the status of its code; Triton has forgotten the code by then.
for code, status in ((1, 500), (2, 404), (4, 503), (5, 501)):
    DIFFERENT['generate failing: {"IN":%d}' % code] = error(status, "boom")
    boom = 'data: {"error":"boom"}\n\n'
    DIFFERENT['generate_stream failing: {"IN":%d}' % code] = [status, EVENTS, boom]

# What cannot be decompressed is named; Triton goes on with an empty body.
DIFFERENT["compressed: without its header"] = error(400, BROKEN + "corrupt deflate stream", TEXT)
DIFFERENT["compressed: broken"] = error(400, BROKEN + "corrupt deflate stream", TEXT)
DIFFERENT["compressed: cut"] = error(400, BROKEN + "incomplete deflate stream", TEXT)
# Names of encodings have no case, and spaces do not matter (RFC 9110).
DIFFERENT["compressed: capital letters"] = RECORDED["compressed: gzip"]
for wish in ("GZIP", "gzip ; q=1"):
    DIFFERENT["accepting: " + wish] = RECORDED["accepting: gzip"]

# No rows are no bytes, again.
NOTHING = {"OUT": [], "model_name": "m", "model_version": "1"}
DIFFERENT['generate m: {"IN":[]}'] = [200, JSON, NOTHING]
DIFFERENT['generate_stream m: {"IN":[]}'] = [
    200, EVENTS, "data: %s\n\n" % json.dumps(NOTHING, separators=(",", ":"))
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    repository(folder)
    with Server(folder, "--allow-client-shm=true") as running:
        yield running


@pytest.fixture(scope="module")
def called(server):
    return calls(server.port, server.grpc_port)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_answer_is_tritons(server, name):
    answer = ask(server.port, *REQUESTS[name])
    assert answer == DIFFERENT.get(name, RECORDED[name])


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in REQUESTS])
def test_the_call_is_answered_like_triton(called, name):
    assert called[name] == DIFFERENT.get(name, RECORDED[name])
