"""NVIDIA's load generator, shortly: that it runs through and counts, not how fast."""

import csv
import os
import subprocess

import pytest
from harness import ROOT, Server, write_model
from models import IDENTITY_MODEL, config, python_model

FOLDER = ROOT / ".venv/perf_analyzer"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "perf_analyzer").is_file(), reason="needs what scripts/setup.sh installs"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "plain", config("identity", dims="[ 16 ]"))
    python_model(repository, "python", IDENTITY_MODEL)
    with Server(repository, "--allow-client-shm=true") as running:
        yield running


def requests(server, folder, model, *flags):
    """How many requests perf_analyzer has counted, and the rest of its report."""
    report = folder / "report.csv"
    protocol = flags[flags.index("-i") + 1]
    url = server.url if protocol == "http" else server.grpc_url
    command = [
        str(FOLDER / "perf_analyzer"), "-m", model, "-u", url, "-f", str(report),
        # So many requests, once, and no wish for figures that agree with each other.
        "--measurement-mode", "count_windows", "--measurement-request-count", "50",
        "--stability-percentage", "999", "--max-trials", "3", "--concurrency-range", "2",
        *flags,
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(FOLDER)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    [row] = csv.DictReader(report.open())
    return float(row["Inferences/Second"]), row


@pytest.mark.parametrize(
    "flags",
    [
        ("-i", "http"),
        ("-i", "grpc"),
        ("-i", "grpc", "--streaming"),
        ("-i", "http", "--shared-memory", "system", "--output-shared-memory-size", "1024"),
        ("-i", "grpc", "--shared-memory", "system", "--output-shared-memory-size", "1024"),
        ("-i", "grpc", "--async", "--grpc-compression-algorithm", "gzip"),
    ],
    ids=" ".join,
)
def test_it_runs_through(server, tmp_path, flags):
    rate, _ = requests(server, tmp_path, "plain", *flags)
    assert rate > 0


def test_it_finds_the_metrics(server, tmp_path):
    metrics = "127.0.0.1:%d/metrics" % server.metrics_port
    rate, row = requests(
        server, tmp_path, "python", "-i", "http", "--shape", "IN:4", "--collect-metrics",
        "--metrics-url", metrics, "--metrics-interval", "100", "--verbose-csv",
    )
    assert rate > 0
    # Its times come from the server's statistics.
    assert float(row["Server Compute Infer"]) > 0
