"""The example repository, asked by its own client."""

import subprocess
import sys

import pytest
from harness import ROOT, Server


@pytest.mark.parametrize("flags", [[], ["--backend-config=onnxruntime,engine=rten"]])
def test_the_quickstart_answers(flags):
    with Server(ROOT / "examples/quickstart", *flags) as server:
        command = [sys.executable, str(ROOT / "examples/client.py"), server.url]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert shown.returncode == 0, shown.stderr
        assert "3 words: one small binary" in shown.stdout
        assert "+##############+" in shown.stdout
