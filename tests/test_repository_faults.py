"""What happens to the repository and the machine under a server that runs."""

import contextlib
import glob
import os
import shutil
import subprocess

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from models import IDENTITY_MODEL, config, python_model
from tritonclient.utils import InferenceServerException

IDENTITY = config("identity", dims="[ 1 ]")
FAKETIME = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")


def ask(client, model):
    tensor = httpclient.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.float32([[3]]))
    return client.infer(model, [tensor]).as_numpy("OUT")[0, 0]


def index(client):
    return {row["name"]: row.get("state") for row in client.get_model_repository_index()}


@pytest.mark.parametrize("mode", ["none", "explicit", "poll", "auto"])
def test_the_repository_vanishes(tmp_path, mode):
    """What serves goes on serving, and all is well when the folder is back."""
    repository = tmp_path / "models"
    write_model(repository, "a", IDENTITY)
    python_model(repository, "b", IDENTITY_MODEL, dims="[ 1 ]")
    flags = ["--model-control-mode=" + mode, "--repository-poll-secs=1"]
    flags += ["--load-model=*"] * (mode in ("explicit", "auto"))
    with Server(repository, *flags) as server:
        client = httpclient.InferenceServerClient(server.url)
        shutil.move(repository, tmp_path / "gone")
        if mode == "poll":
            server.wait_for(lambda: "failed to look at the repository" in server.log())
        assert ask(client, "a") == ask(client, "b") == 3
        assert index(client) == {"a": "READY", "b": "READY"} and client.is_server_ready()
        if mode in ("explicit", "auto"):
            with pytest.raises(InferenceServerException, match="failed to read .*/models"):
                client.load_model("a")
        shutil.move(tmp_path / "gone", repository)
        write_model(repository, "c", IDENTITY)
        if mode == "explicit":
            client.load_model("c")
        if mode != "none":
            server.wait_for(lambda: client.is_model_ready("c"))
            assert ask(client, "c") == 3
        assert ask(client, "a") == 3
        client.close()


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so many bytes; skips where none may be mounted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_the_load_and_nothing_else(tmp_path):
    repository = tmp_path / "models"
    write_model(repository, "a", IDENTITY)
    python_model(repository, "needy", IDENTITY_MODEL, dims="[ 1 ]")
    (repository / "needy/requirements.txt").write_text("")
    python_model(repository, "plain", IDENTITY_MODEL, dims="[ 1 ]")
    with small_disk(tmp_path / "cache", 1 << 20) as cache, small_disk(tmp_path / "tmp", 64 << 10) as temporary:
        places = {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(temporary)}
        flags = ["--model-control-mode=explicit", "--load-model=a", "--load-model=plain"]
        with Server(repository, *flags, env=places) as server:
            client = httpclient.InferenceServerClient(server.url)
            with pytest.raises(InferenceServerException, match="failed to build an environment"):
                client.load_model("needy")
            sent = {"file:1/model.py": b"x" * (1 << 20)}
            with pytest.raises(InferenceServerException, match="No space left"):
                client.load_model("sent", config="{}", files=sent)
            assert os.listdir(temporary) == []
            assert ask(client, "a") == ask(client, "plain") == 3
            client.close()


@pytest.mark.skipif(not FAKETIME, reason="needs Debian's libfaketime")
def test_the_clock_jumps(tmp_path):
    """Years forth and back: models come, leave, wait and are polled by a clock that nobody sets."""
    repository, clock = tmp_path / "models", tmp_path / "clock"
    size = 'parameters { key: "memory_bytes" value { string_value: "100" } }'
    delay = "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 20000 }"
    for name in ("a", "b", "c"):
        write_model(repository, name, config("identity", dims="[ 1 ]", more=size + delay))
    clock.write_text("+0")
    env = {
        "LD_PRELOAD": FAKETIME[0],
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    auto = ["--model-control-mode=auto", "--model-memory-budget=200"]
    for flags in (auto, ["--model-control-mode=poll", "--repository-poll-secs=1"]):
        clock.write_text("+0")
        with Server(repository, *flags, env=env) as server:
            client = httpclient.InferenceServerClient(server.url)
            for jump in ("+0", "+10y", "-10y", "+0"):
                clock.write_text(jump)
                for name in ("a", "b", "c"):
                    assert ask(client, name) == 3
                if flags is auto:
                    assert {n for n, state in index(client).items() if state == "READY"} == {"b", "c"}
            if flags is not auto:
                write_model(repository, "late", IDENTITY)
                server.wait_for(lambda: client.is_model_ready("late"))
            client.close()
