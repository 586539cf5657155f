"""The same Python models as on Triton 2.51 answer as they did there: status, texts, tensors.

`golden/record.py` makes the recording anew; `golden/python/differences.py` lists where we answer
otherwise on purpose.
"""

from pathlib import Path

import pytest
from golden.python.differences import DIFFERENT, REASONS, RECORDED
from golden.python.scenarios import answers, repository
from harness import Server

PAGE = Path(__file__).resolve().parents[1] / "docs/compatibility.md"


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    repository(folder)
    with Server(folder, "--model-control-mode=explicit") as server:
        yield answers(folder, server.port, server.grpc_port)


@pytest.mark.parametrize("name", RECORDED)
def test_the_answer_is_tritons(answered, name):
    assert answered[name] == DIFFERENT.get(name, RECORDED[name])


def test_the_recording_is_of_these_models(answered):
    assert list(answered) == list(RECORDED)


def test_every_difference_is_one_and_has_its_reason_on_the_page():
    page = " ".join(PAGE.read_text().split())
    assert [reason for reason in REASONS if reason not in page] == []
    assert [name for name, answer in DIFFERENT.items() if answer == RECORDED[name]] == []
