"""What the worker's tests share."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_server import Server  # noqa: E402


@pytest.fixture
def serve(tmp_path):
    """Starts workers; ends them after the test."""
    servers, numbers = [], itertools.count()

    def start(source, **options):
        servers.append(Server(tmp_path / str(next(numbers)), source, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
