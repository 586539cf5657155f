"""Models that come and go while the server runs."""

import json
import shutil
import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import Server, exit_code, write_model
from models import ADD, IDENTITY_MODEL, config, python_model
from tritonclient.utils import InferenceServerException

IDENTITY = config("identity", dims="[ 2 ]")
BROKEN = "raise ValueError('no such luck')"


@pytest.fixture
def explicit(tmp_path):
    """A server that loads on request, its client and its repository."""
    repository = tmp_path / "models"
    write_model(repository, "a", IDENTITY)
    write_model(repository, "b", IDENTITY)
    flags = ["--model-control-mode=explicit", "--load-model=a"]
    with Server(repository, *flags) as server:
        client = httpclient.InferenceServerClient(server.url, concurrency=8)
        yield server, client, repository
        client.close()


def ask(client, model, value=1.0):
    tensor = httpclient.InferInput("IN", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.float32([[value, value]]))
    return client.infer(model, [tensor]).as_numpy("OUT")[0, 0]


def index(client):
    return {row["name"]: (row.get("state"), row.get("reason", "")) for row in client.get_model_repository_index()}


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_models_are_loaded_and_unloaded(explicit):
    server, client, _ = explicit
    assert index(client) == {"a": ("READY", ""), "b": (None, "")}
    assert not client.is_model_ready("b")
    client.load_model("b")
    assert ask(client, "b") == 1
    client.unload_model("a")
    assert not client.is_model_ready("a")
    wait_until(lambda: index(client)["a"] == ("UNAVAILABLE", "unloaded"))
    with pytest.raises(InferenceServerException, match="'a' has no available versions"):
        ask(client, "a")
    client.unload_model("nobody")
    assert client.is_server_ready()
    client.load_model("a")
    assert ask(client, "a") == 1


def test_the_same_over_grpc(explicit):
    server, _, repository = explicit
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.load_model("b")
        states = {m.name: m.state for m in client.get_model_repository_index().models}
        assert states == {"a": "READY", "b": "READY"}
        client.unload_model("b", unload_dependents=True)
        assert server.get("/v2/models/b/ready")[0] != 200
        narrow = {
            "backend": "python",
            "max_batch_size": 3,
            "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [2]}],
            "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [2]}],
        }
        model = "\n".join(line[4:] for line in IDENTITY_MODEL.splitlines())
        files = {"file:1/model.py": model.encode()}
        client.load_model("sent", config=json.dumps(narrow), files=files)
        assert client.get_model_config("sent").config.max_batch_size == 3
        with pytest.raises(InferenceServerException, match="failed to poll from model repository"):
            client.load_model("nobody")


def test_errors_of_loading(explicit):
    server, client, repository = explicit
    for name, reason in (
        ("nobody", "failed to load 'nobody', failed to poll from model repository"),
        ("..", "must not contain path traversal characters"),
    ):
        with pytest.raises(InferenceServerException, match=reason):
            client.load_model(name)
    python_model(repository, "broken", BROKEN)
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("broken")
    assert caught.value.message().startswith(
        "load failed for model 'broken': version 1 is at UNAVAILABLE state: Internal: "
    )
    assert index(client)["broken"][0] == "UNAVAILABLE"
    status, text = post(server, "/v2/repository/repo/models/a/load", b"")
    assert (status, text) == (501, "'repository_name' specification is not supported")
    assert post(server, "/v2/repository/models/a/load", b'{"parameters":{"x":"y"}}')[0] == 500
    assert post(server, "/v2/repository/index", b'{"ready":1}')[0] == 500


def post(server, path, body):
    import urllib.error
    import urllib.request

    request = urllib.request.Request("http://%s%s" % (server.url, path), data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


def test_without_explicit_control_nothing_is_loaded_on_request(tmp_path):
    write_model(tmp_path, "a", IDENTITY)
    with Server(tmp_path) as server:
        client = httpclient.InferenceServerClient(server.url)
        for action in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="explicit model load / unload is not"):
                action("a")
        assert index(client) == {"a": ("READY", "")}
        client.close()


def test_start_with_a_wrong_combination(tmp_path):
    code, log = exit_code(tmp_path, "--load-model=a")
    assert code == 1 and "requires setting '--model-control-mode=explicit'" in log


def test_a_configuration_and_files_of_the_clients_own(explicit):
    server, client, _ = explicit
    narrow = {
        "backend": "identity",
        "max_batch_size": 3,
        "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [2]}],
        "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [2]}],
    }
    client.load_model("a", config=json.dumps(narrow))
    assert client.get_model_config("a")["max_batch_size"] == 3
    client.load_model("a")
    assert client.get_model_config("a")["max_batch_size"] == 8
    with pytest.raises(InferenceServerException, match="failed to poll from model repository"):
        client.load_model("a", config="{bad")
    assert client.get_model_config("a")["max_batch_size"] == 8

    narrow["backend"] = "python"
    model = "\n".join(line[4:] for line in (ADD % 5).splitlines())
    client.load_model("sent", config=json.dumps(narrow), files={"file:1/model.py": model.encode()})
    assert ask(client, "sent") == 6
    with pytest.raises(InferenceServerException, match="without a configuration"):
        client.load_model("sent", files={"file:1/model.py": b"x"})
    narrow["backend"] = "identity"
    with pytest.raises(InferenceServerException, match="invalid file name"):
        client.load_model("sent", config=json.dumps(narrow), files={"file:../model.py": b"x"})


def test_a_swap_loses_no_request_and_a_failed_one_changes_nothing(explicit):
    server, client, repository = explicit
    python_model(repository, "swapped", ADD % 1, dims="[ 2 ]")
    client.load_model("swapped")
    answers, stop = [], threading.Event()

    def keep_asking():
        own = httpclient.InferenceServerClient(server.url)
        while not stop.is_set():
            answers.append(ask(own, "swapped"))
        own.close()

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in (2, 3):
            python_model(repository, "swapped", ADD % number, dims="[ 2 ]")
            client.load_model("swapped")
            wait_until(lambda: answers[-1] == 1 + number)
        python_model(repository, "swapped", BROKEN, dims="[ 2 ]")
        with pytest.raises(InferenceServerException, match="no such luck"):
            client.load_model("swapped")
        assert ask(client, "swapped") == 4
        state, reason = index(client)["swapped"]
        assert state == "READY" and "no such luck" in reason
        assert client.is_server_ready()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {2, 3, 4}
    assert len(server.workers()) == 1


def test_loading_what_has_not_changed_does_nothing(explicit):
    server, client, repository = explicit
    python_model(repository, "same", ADD % 1, dims="[ 2 ]")
    client.load_model("same")
    before = server.workers()
    client.load_model("same")
    assert server.workers() == before


def test_polling_follows_the_repository(tmp_path):
    repository = tmp_path / "models"
    python_model(repository, "a", ADD % 1, dims="[ 2 ]")
    write_model(repository, "b", IDENTITY)
    flags = ["--model-control-mode=poll", "--repository-poll-secs=1", "--exit-on-error=false"]
    with Server(repository, *flags) as server:
        client = httpclient.InferenceServerClient(server.url)
        before = server.workers()
        (repository / "a/1/model.py").touch()
        write_model(repository, "c", IDENTITY)
        shutil.rmtree(repository / "b")
        wait_until(lambda: client.is_model_ready("c") and not client.is_model_ready("b"))
        assert server.workers() == before, "touching a file does nothing"
        python_model(repository, "a", ADD % 2, dims="[ 2 ]")
        wait_until(lambda: ask(client, "a") == 3 and len(server.workers()) == 1)
        before = server.workers()
        two = "instance_group [ { count: 2 kind: KIND_CPU } ]"
        write_model(repository, "a", config("python", dims="[ 2 ]", more=two))
        wait_until(lambda: len(server.workers()) == 2)
        assert set(before) < set(server.workers()), "instances alone are changed in place"
        python_model(repository, "a", BROKEN, dims="[ 2 ]")
        wait_until(lambda: "no such luck" in index(client)["a"][1])
        assert ask(client, "a") == 3
        client.close()


def test_a_folder_that_is_being_written_serves_when_it_is_complete(tmp_path):
    write_model(tmp_path, "a", IDENTITY)
    flags = ["--model-control-mode=poll", "--repository-poll-secs=1"]
    with Server(tmp_path, *flags) as server:
        client = httpclient.InferenceServerClient(server.url)
        body = "\n".join(line[4:] for line in (ADD % 1).splitlines())
        write_model(tmp_path, "late", config("python", dims="[ 2 ]"), {"model.py": ""})
        with open(tmp_path / "late/1/model.py", "a") as file:
            for line in body.splitlines(keepends=True) + ["# The end.\n"] * 20:
                file.write(line)
                file.flush()
                time.sleep(0.05)
        wait_until(lambda: client.is_model_ready("late"))
        assert ask(client, "late") == 2
        client.close()


def test_a_load_that_fails_is_tried_again_if_that_was_asked_for(tmp_path):
    body = """
    import pathlib
    import triton_python_backend_utils as pb_utils

    TRIES = pathlib.Path(__file__).parents[2] / "tries"

    class TritonPythonModel:
        def initialize(self, args):
            with TRIES.open("a") as tries:
                tries.write("x")
            if len(TRIES.read_text()) % 3:
                raise ValueError("not yet")

        def execute(self, requests):
            return []
    """
    python_model(tmp_path, "late", body, dims="[ 2 ]")
    python_model(tmp_path, "never", body, dims="[ 0 ]")
    flags = ["--exit-on-error=false", "--disable-auto-complete-config"]
    with Server(tmp_path, *flags, "--model-load-retry-count=2") as server:
        client = httpclient.InferenceServerClient(server.url)
        assert client.is_model_ready("late")
        assert (tmp_path / "tries").read_text() == "xxx"
        assert "failed to load 'late' version 1, 1 tries left" in server.log()
        assert "failed to load 'never' version 1, " not in server.log(), "it stays wrong"
        client.close()


def test_named_configurations_and_no_completion(tmp_path):
    write_model(tmp_path, "a", IDENTITY)
    (tmp_path / "a/configs").mkdir()
    small = IDENTITY.replace("max_batch_size: 8", "max_batch_size: 2")
    (tmp_path / "a/configs/small.pbtxt").write_text(small)
    python_model(tmp_path, "bare", IDENTITY_MODEL)
    (tmp_path / "bare/config.pbtxt").unlink()
    flags = ["--model-config-name=small", "--disable-auto-complete-config", "--exit-on-error=false"]
    with Server(tmp_path, *flags) as server:
        client = httpclient.InferenceServerClient(server.url)
        assert client.get_model_config("a")["max_batch_size"] == 2
        assert "must specify 'platform' or 'backend'" in index(client)["bare"][1]
        client.close()
