"""Configurations completed and refused like Triton 2.51 does it (`golden/completion.py`)."""

import json
import re

import pytest
from golden.completion import CASES, RECORDING, answer, write
from harness import Server

RECORDED = json.loads(RECORDING.read_text())
# What we say in other words, or about another of two tensors; Triton serves the first of these.
OTHERWISE = {
    "bad_type": "unrecognized enum value 'FP32'",
    "syntax_error": "SyntaxError: invalid syntax",
    "no_labels": "none.txt: No such file or directory",
    "e_output_shape": "[-1,4] is inferred from model complete while [-1,4,1] is inferred from model e_output_shape",
    "e_broken_member": "depends on 'raises' which has no loaded version",
}
# Its model.py says what it is, whatever `platform` says.
SERVED = {"wrong_platform"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write(folder)
    with Server(folder, "--model-control-mode=explicit") as running:
        yield running


def core(error):
    """What is wrong, without where: tracebacks look different, and where Triton says only that it has
    failed to poll, we say why."""
    error = re.sub(r"version 1 is at UNAVAILABLE state: ", "", error)
    error = re.sub(r"(/\S+)+/none.txt", "none.txt", error)
    error = re.sub(r"^(load failed for model '\w+': |failed to load '\w+', failed to poll.*)", "", error)
    # The name of the exception stands in front of what it says.
    return re.sub(r"^(Internal|Invalid argument): (\w+: )?", "", error.split("\n")[0]).rstrip(";")


@pytest.mark.parametrize("name", CASES)
def test_the_configuration_is_completed_like_tritons(server, name):
    expected, given = RECORDED[name], answer(server.port, name)
    if name in OTHERWISE:
        assert OTHERWISE[name] in given["error"]
        return
    if name in SERVED:
        assert given["config"]["backend"] == "python"
        return
    assert set(given) == set(expected), given
    if "config" in expected:
        # Triton has had this field since 2.53.
        given["config"].get("ensemble_scheduling", {}).pop("max_inflight_requests", None)
        assert given["config"] == expected["config"]
    else:
        given = re.sub(r"(/\S+)+/none.txt", "none.txt", given["error"])
        assert core(expected["error"]) in given
