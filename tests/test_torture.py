"""A short run of scripts/torture.py: every number of every tensor is as it should be."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts/torture.py"


def test_every_number_is_right_while_workers_are_killed():
    command = [sys.executable, SCRIPT, "--seconds=5", "--kills=60"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
