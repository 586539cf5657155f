"""Configurations completed and refused like Triton 2.51 does it (`golden/completion.py`)."""

import json
import re

import pytest
from golden.completion import CASES, RECORDING, answer, write
from harness import Server

RECORDED = json.loads(RECORDING.read_text())
# Triton serves a tensor of a datatype that does not exist.
RECORDED["bad_type"] = {"error": "unknown datatype 'FP32'", "reason": []}


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
    assert set(given) == set(expected), given
    if "config" in expected:
        # Triton has had this field since 2.53.
        given["config"].get("ensemble_scheduling", {}).pop("max_inflight_requests", None)
        assert given["config"] == expected["config"]
    else:
        given = re.sub(r"(/\S+)+/none.txt", "none.txt", given["error"])
        assert core(expected["error"]) in given
