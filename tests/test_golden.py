"""The same requests, the same answers: compared with a recording from Triton 2.51.

`golden/record.py` makes the recording anew; `golden/differences.py` lists where we answer otherwise
on purpose.
"""

from pathlib import Path

import pytest
from golden import guarded
from golden.calls import calls
from golden.differences import DIFFERENT, GUARDED, REASONS, RECORDED
from golden.exchange import ask
from golden.requests import repository, requests
from harness import Server

REQUESTS = {name: rest for name, *rest in requests()}
PAGE = Path(__file__).resolve().parents[1] / "docs/compatibility.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    repository(folder)
    with Server(folder, "--allow-client-shm=true") as running:
        yield running


@pytest.fixture(scope="module")
def called(server):
    return calls(server.port, server.grpc_port)


@pytest.fixture(scope="module")
def guarded_answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    guarded.repository(folder)
    with Server(folder, "--allow-client-shm=true", *guarded.FLAGS) as server:
        return guarded.answers(server.port, server.grpc_port)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_answer_is_tritons(server, name):
    answer = ask(server.port, *REQUESTS[name])
    assert answer == DIFFERENT.get(name, RECORDED[name])


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in REQUESTS])
def test_the_call_is_answered_like_triton(called, name):
    assert called[name] == DIFFERENT.get(name, RECORDED[name])


@pytest.mark.parametrize("name", GUARDED)
def test_a_careful_server_answers_like_triton(guarded_answers, name):
    assert guarded_answers[name] == DIFFERENT.get(name, GUARDED[name])


def test_the_recordings_are_of_these_requests(called, guarded_answers):
    assert list(RECORDED) == [*REQUESTS, *called]
    assert list(GUARDED) == list(guarded_answers)


def test_every_difference_is_one_and_has_its_reason_on_the_page():
    page = " ".join(PAGE.read_text().split())
    assert [reason for reason in REASONS if reason not in page] == []
    recorded = {**RECORDED, **GUARDED}
    assert [name for name, answer in DIFFERENT.items() if answer == recorded[name]] == []
