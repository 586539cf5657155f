"""Where Python models are answered otherwise than by Triton on purpose, by reason: part of the list
in docs/compatibility.md."""

import base64
import json
from pathlib import Path

RECORDED = json.loads(Path(__file__).with_name("triton-2.51.json").read_text())

LOAD = "load failed for model '%s': version 1 is at UNAVAILABLE state: %s;\n"
FAILED = "Failed to process the request(s) for model 'returns_0', message: "


def load_error(model, text, code="Internal"):
    return [400, "application/json", {"error": LOAD % (model, "%s: %s" % (code, text))}]


def failed(text, case=None):
    """A failure of `execute`; where it happened is as Triton says if `case` names the recording."""
    place = ""
    if case:
        place = "\n\nAt:\n" + RECORDED["returns " + case][2]["error"].split("\n\nAt:\n")[1]
    return [500, "text/plain", {"error": FAILED + text + place}]


def changed(name, *replacements):
    """The recorded answer with other words."""
    text = json.dumps(RECORDED[name])
    for old, new in replacements:
        old, new = json.dumps(old)[1:-1], json.dumps(new)[1:-1]
        assert old in text, (name, old)
        text = text.replace(old, new)
    return json.loads(text)


def _error_of_a_call():
    said = changed("coroutine several_at_once")
    content = said[0]["infer_response"]["raw_output_contents"]
    raw = base64.b64decode(content[0]).replace(b"error 1: negative", b"error 3: negative")
    content[0] = base64.b64encode(raw).decode()
    return said


MISSING = "No module named 'no_such_package'"
METRIC = "Failed to process the request for model 'api_0', message: "

REASONS = {
    "A Python module that is missing is named with the environment that was searched.": {
        name: changed(name, (MISSING, MISSING + " (looked for in the environment of )"))
        for name in ("load broken_import", "returns misses_a_module")
    },
    "A mistake in the syntax of a model is shown with its line.": {
        "load broken_syntax": load_error(
            "broken_syntax",
            'File "REPOSITORY/broken_syntax/1/model.py", line 2\n def execute(self requests):\n'
            " ^^^^^^^^\nSyntaxError: invalid syntax",
        ),
    },
    "A Python model that could never execute, or has a datatype that there is not, is not loaded.": {
        "load broken_no_class": load_error(
            "broken_no_class",
            "REPOSITORY/broken_no_class/1/model.py has no class TritonPythonModel",
        ),
        "load broken_no_execute": load_error(
            "broken_no_execute", "class TritonPythonModel has no method execute"
        ),
        "load complete_unknown_datatype": load_error(
            "complete_unknown_datatype",
            "unrecognized enum value 'TYPE_X' at line 1 column 137",
            "Invalid argument",
        ),
    },
    "`execute` that yields is told that it must return a list.": {
        "returns a_generator": failed(
            "Expected a list in the execute return, found type '<class 'generator'>'."
        ),
    },
    "Arrays of numpy's own text type are STRING tensors, too.": {
        "returns strings_of_numpy_unicode": RECORDED["returns strings_of_numpy_bytes"],
        "api unicode_of_numpy": changed(
            "api unicode_of_numpy",
            ("TritonModelException: NumPy dtype is not supported.", "list: ['a']"),
        ),
    },
    "A Python model that misuses the module is told so in plainer words, and at once.": {
        "returns a_list_for_a_tensor": failed(
            "TypeError: a tensor is made of a numpy.ndarray, got list", "a_list_for_a_tensor"
        ),
        "returns a_text_among_outputs": failed(
            "TypeError: output_tensors must hold Tensors, got str", "a_text_among_outputs"
        ),
        "returns error_of_text": failed(
            "TypeError: error must be a TritonError, got str", "error_of_text"
        ),
        "returns error_of_an_unknown_code": failed(
            "TypeError: code must be one of TritonError's codes, got 99",
            "error_of_an_unknown_code",
        ),
        "api release_flags": changed(
            "api release_flags",
            ("0: NoneType: None", "0: TritonModelException: unknown release flags: 0"),
            ("7: NoneType: None", "7: TritonModelException: unknown release flags: 7"),
        ),
        "api metrics": changed(
            "api metrics",
            ("Failed to increment metric value: " + METRIC, ""),
            ("Failed to set metric value: " + METRIC, ""),
            (
                "Error when creating MetricFamily: " + METRIC
                + "Family name already exists with different type",
                "Metric family 'golden_count' already exists with different kind",
            ),
            (
                "Error when creating MetricFamily: " + METRIC + "Invalid metric name",
                "'golden count' cannot be the name of a metric",
            ),
            (
                "Error when creating Metric: " + METRIC
                + "attempt to access JSON non-string as string",
                "Metric label names and values must be strings, got 'a': 1",
            ),
        ),
        "api readiness": changed(
            "api readiness",
            ("Failed to check model readiness: " + METRIC, ""),
            (" (details: stol), version should be an integral value > 0", ""),
        ),
        "api loading": changed(
            "api loading",
            ("Failed to load model: " + METRIC, ""),
            (
                "failed to load 'raising_finalize', failed to poll from model repository",
                "failed to load 'raising_finalize', failed to poll from model repository: EOF "
                "while parsing an object at line 1 column 1",
            ),
        ),
    },
    "The error of a model that a Python model calls keeps its code, and is not lost among the "
    "responses of a decoupled one.": {
        "bls error_of_the_model": changed("bls error_of_the_model", ("error 1:", "error 3:")),
        "coroutine several_at_once": _error_of_a_call(),
        "bls decoupled": changed(
            "bls decoupled",
            ("[-1.0, 0.0])]\", '[]'", "[-1.0, 0.0])]\", 'error 1: negative', '[]'"),
            ("[-2.0, 0.0])]\", '[]'", "[-2.0, 0.0])]\", 'error 1: negative', '[]'"),
        ),
    },
}

DIFFERENT = {name: answer for answers in REASONS.values() for name, answer in answers.items()}
