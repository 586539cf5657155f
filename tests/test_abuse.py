"""A short run of scripts/abuse.py: the server keeps answering whatever others do."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts/abuse.py"


def test_bad_clients_do_no_harm_to_others():
    # Patience so large that a busy machine does not fail the test: it is about answers, not time.
    small = ["--connections=300", "--streams=100", "--seconds=1", "--patience=60"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *small], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
