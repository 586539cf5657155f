"""Requests made up from the OpenAPI document: every answer must be as the document says, and the server
must live. Triton's status for a value of the wrong kind is 500, so that is no finding here."""

import subprocess
import sys

import pytest
from harness import Server, write_model
from models import config

pytest.importorskip("schemathesis")

CHECKS = "status_code_conformance", "content_type_conformance", "response_schema_conformance"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, datatype in (("model", "FP32"), ("words", "STRING")):
        write_model(repository, name, config("identity", datatype))
    with Server(repository, "--allow-client-shm=true") as running:
        yield running


def test_answers_are_as_described(server, tmp_path):
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", "http://%s/v2/openapi.json" % server.url,
        "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing",
        # The same requests every time.
        "--seed", "7", "--max-examples", "8", "--generation-deterministic",
        "--workers", "1", "--no-color",
        "--request-timeout", "60", "--warnings", "off",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr
    assert server.process.poll() is None
    assert server.get("/v2/health/ready")[0] == 200
