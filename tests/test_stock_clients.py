"""Stock clients of three ages, each in a process of its own, ask for everything they can."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT, Server, write_model
from models import config

TOUR = Path(__file__).resolve().parent / "clients/tour.py"

SYNCHRONOUS = ["metadata", "control", "infer", "errors", "async", "shared memory"]
YOUNGER = ["get_trace_settings", "get_log_settings"]

# What a client must have gone through, beside what all of them do.
CLIENTS = {
    "oldest-client": {"http": [], "grpc": ["stream"], "http.aio": [], "grpc.aio": []},
    "": {
        "http": [*YOUNGER, "compression"],
        "grpc": [*YOUNGER, "stream"],
        "http.aio": ["infer"],
        "grpc.aio": ["infer", "stream"],
    },
}
CLIENTS["newest-client"] = CLIENTS[""]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "numbers", config("identity"))
    write_model(repository, "words", config("identity", "STRING"))
    flags = "--model-control-mode=explicit", "--load-model=*", "--allow-client-shm=true"
    with Server(repository, *flags) as running:
        yield running


@pytest.mark.parametrize("client", CLIENTS)
def test_a_tour(server, client):
    environment = dict(os.environ)
    if client:
        folder = ROOT / ".venv" / client
        if not folder.is_dir():
            pytest.skip("needs the client that scripts/setup.sh installs")
        environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, str(TOUR), str(server.port), str(server.grpc_port)]
    toured = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert toured.returncode == 0, toured.stderr
    seen = json.loads(toured.stdout.splitlines()[-1])
    assert not client or client in seen["client"]
    for protocol, own in CLIENTS[client].items():
        common = [] if protocol.endswith("aio") else SYNCHRONOUS
        assert sorted(seen["done"][protocol]) == sorted(common + own), protocol
