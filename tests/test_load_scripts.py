"""Short runs of the scripts that put a server under load for long."""

import subprocess
import sys

import pytest
from harness import ROOT


@pytest.mark.parametrize(
    "script",
    [
        ["kill_workers.py", "--times=3", "--connections=4"],
        ["soak.py", "--requests=2000", "--calls=400"],
        ["swap.py", "--swaps=6", "--clients=4", "--calm=1", "--corrupt=0.3"],
        ["many_models.py", "--models=60", "--room=10", "--requests=800", "--poll-seconds=1"],
        ["load_unload.py", "--times=6", "--megabytes=1"],
        ["sequences.py", "--sequences=400", "--rounds=2", "--idle=3"],
    ],
    ids=lambda script: script[0],
)
def test_a_short_run(script):
    command = [sys.executable, str(ROOT / "scripts" / script[0]), *script[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
