"""Python workers that hang, die again and again, or cannot start: who is told what, and when."""

import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from harness import Server, _alive, write_model
from models import IDENTITY_MODEL, config, python_model
from test_python_backend import infer
from tritonclient.utils import InferenceServerException

HEAD = """
import os, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
"""

# Hangs when it is sent a 2.
HANGS = """
    def execute(self, requests):
        for r in requests:
            if pb_utils.get_input_tensor_by_name(r, "IN").as_numpy().flat[0] == 2:
                self.waits_for_ever()
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", t.as_numpy())])
                for r in requests for t in r.inputs()]

    def waits_for_ever(self):
        time.sleep(3600)
"""

# Has a child that it has forked, as many libraries have, which may ignore what it is told, and dies
# when it is sent a 2.
FORKS = """
    def initialize(self, args):
        import multiprocessing, signal
        if "deaf" in args["model_name"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
        child.daemon = True
        child.start()
        with open(os.path.join(args["model_repository"], "children"), "a") as children:
            print(child.pid, file=children)

    def execute(self, requests):
        if pb_utils.get_input_tensor_by_name(requests[0], "IN").as_numpy().flat[0] == 2:
            os.kill(os.getpid(), 9)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", t.as_numpy())])
                for r in requests for t in r.inputs()]
"""

DECOUPLED = """
    def execute(self, requests):
        for r in requests:
            sender = r.get_response_sender()
            x = r.inputs()[0].as_numpy()
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", x)]))
            if x.flat[0] == 2:
                os.kill(os.getpid(), 9)
            sender.send(flags=1)
"""


def limit(name, seconds):
    return 'parameters { key: "%s" value: { string_value: "%s" } }' % (name, seconds)


def refusal(server, model, value=1.0):
    with pytest.raises(InferenceServerException) as raised:
        infer(server, model, np.full((1, 4), value, np.float32))
    return raised.value.message()


def test_a_worker_that_hangs_is_ended_and_says_where(tmp_path):
    python_model(tmp_path, "hangs", HEAD + HANGS, more=limit("EXECUTE_TIMEOUT_SECONDS", 0.5))
    python_model(tmp_path, "other", IDENTITY_MODEL)
    with Server(tmp_path) as server:
        for _ in range(2):
            message = refusal(server, "hangs", 2)
            assert "model instance 'hangs_0' did not return from 'execute' within 0.5 s" in message
            assert "in waits_for_ever" in message
            assert np.array_equal(infer(server, "other"), np.ones((1, 4)))
            assert np.array_equal(infer(server, "hangs"), np.ones((1, 4)))


@pytest.mark.parametrize("model", ["forks", "forks_deaf"])
def test_a_worker_that_dies_although_its_child_lives(tmp_path, model):
    """It starts again, and its children end."""
    python_model(tmp_path, model, HEAD + FORKS)
    with Server(tmp_path) as server:
        for _ in range(2):
            assert "was ended by signal 9" in refusal(server, model, 2)
            assert np.array_equal(infer(server, model), np.ones((1, 4)))
        children = [int(pid) for pid in (tmp_path / model / "children").read_text().split()]
        assert len(children) == 3
        server.wait_for(lambda: not any(map(_alive, children[:2])))
        assert _alive(children[2])
    assert not _alive(children[2])


def test_the_server_stops_although_a_worker_hangs(tmp_path):
    mark = tmp_path / "began"
    begins = HANGS.replace("time.sleep", "open(%r, 'w').close(); time.sleep" % str(mark))
    python_model(tmp_path, "hangs", HEAD + begins)
    with Server(tmp_path, "--exit-timeout-secs=1") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        body = b'{"inputs":[{"name":"IN","shape":[1,1],"datatype":"FP32","data":[2]}]}'
        connection.request("POST", "/v2/models/hangs/infer", body)
        server.wait_for(mark.exists)
        assert server.stop() == 0
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (503, b'{"error":"the server is stopping"}')
        connection.close()


def test_an_initialize_that_never_ends(tmp_path):
    body = HEAD + "    def initialize(self, args):\n        time.sleep(3600)\n" + HANGS
    python_model(tmp_path, "never", body, more=limit("INITIALIZE_TIMEOUT_SECONDS", 0.5))
    python_model(tmp_path, "other", IDENTITY_MODEL)
    with Server(tmp_path, "--exit-on-error=false", "--strict-readiness=false") as server:
        server.wait_for(lambda: "| never" in server.log())
        assert "did not become ready within 0.5 s" in server.log()
        assert np.array_equal(infer(server, "other"), np.ones((1, 4)))
    python_model(tmp_path, "never", body)
    with Server(tmp_path, wait_ready=False) as server:
        server.wait_for(server.workers)
        assert server.stop() == 0


def test_a_decoupled_worker_that_dies_is_started_again(tmp_path):
    decoupled = "model_transaction_policy { decoupled: true }"
    python_model(tmp_path, "dies", HEAD + DECOUPLED, more=decoupled)
    with Server(tmp_path) as server:
        client = grpcclient.InferenceServerClient(server.grpc_url)
        came = []
        client.start_stream(lambda result, error: came.append(error or result.as_numpy("OUT")[0, 0]))
        for value in (2, 1, 2, 1):
            tensor = grpcclient.InferInput("IN", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.full((1, 1), value, np.float32))
            seen = len(came)
            client.async_stream_infer("dies", [tensor])
            server.wait_for(lambda: len(came) == seen + (2 if value == 2 else 1))
        client.stop_stream()
        client.close()
        errors = [one for one in came if isinstance(one, Exception)]
        assert len(errors) == 2 and "was ended by signal 9" in errors[0].message()


def test_a_crash_loop_is_the_reason_that_clients_are_told(tmp_path):
    mark = tmp_path / "broken"
    body = HEAD + """
    def initialize(self, args):
        if os.path.exists(%r):
            raise RuntimeError("the weights have gone")
""" % str(mark) + IDENTITY_MODEL.split("class TritonPythonModel:")[1].replace("\n    ", "\n")
    python_model(tmp_path, "m", body)
    with Server(tmp_path) as server:
        assert np.array_equal(infer(server, "m"), np.ones((1, 4)))
        mark.touch()
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        server.wait_for(lambda: server.log().count("the weights have gone") > 1)
        assert "RuntimeError: the weights have gone" in refusal(server, "m")
        mark.unlink()

        def serves():
            try:
                return np.array_equal(infer(server, "m"), np.ones((1, 4)))
            except InferenceServerException:
                return False

        server.wait_for(serves)


def test_nothing_is_left_of_a_server_that_was_killed(tmp_path):
    """Not even where a worker is busy in the middle of `execute`, or starting."""
    mark = tmp_path / "began"
    begins = HANGS.replace("time.sleep", "open(%r, 'w').close(); time.sleep" % str(mark))
    python_model(tmp_path, "hangs", HEAD + begins)
    python_model(tmp_path, "other", IDENTITY_MODEL)
    shared = set(os.listdir("/dev/shm"))
    with Server(tmp_path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        tensor = {"name": "IN", "shape": [1, 1], "datatype": "FP32", "data": [2]}
        connection.request("POST", "/v2/models/hangs/infer", json.dumps({"inputs": [tensor]}))
        server.wait_for(mark.exists)
        workers = server.workers()
        assert len(workers) == 2
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 30
        while any(_alive(pid) for pid in workers):
            assert time.monotonic() < deadline, "workers have survived the server"
            time.sleep(0.01)
        connection.close()
    ours = [name for name in set(os.listdir("/dev/shm")) - shared if "nereid" in name]
    assert ours == []


def test_memory_that_runs_out_ends_a_worker_and_not_the_server(tmp_path):
    python_model(tmp_path, "hangs", HEAD + HANGS)
    with Server(tmp_path) as server:
        (worker,) = server.workers()
        score = int(Path("/proc/%d/oom_score_adj" % worker).read_text())
        assert score > int(Path("/proc/%d/oom_score_adj" % server.process.pid).read_text())
        # What the kernel would do.
        killer = threading.Timer(0.5, os.kill, (worker, signal.SIGKILL))
        killer.start()
        message = refusal(server, "hangs", 2)
        assert "was ended by signal 9, as when memory runs out" in message
        assert np.array_equal(infer(server, "hangs"), np.ones((1, 4)))


@pytest.fixture
def small_memory():
    """What makes a command run in a control group with 300 MiB; needs the right to make one."""
    for root, limit in (("memory/", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup/%snereid-test-%d" % (root, os.getpid()))
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(300 << 20))
            enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
            yield ["sh", "-c", enter, str(group)]
            return
        except OSError:
            pass
        finally:
            group.rmdir()
    pytest.skip("no control group can be made")


def test_the_kernel_ends_the_worker_whose_model_takes_all_memory(tmp_path, small_memory):
    python_model(tmp_path, "eats", HEAD + HANGS.replace("time.sleep(3600)", "np.ones(1 << 28)"))
    python_model(tmp_path, "other", IDENTITY_MODEL)
    with Server(tmp_path, prefix=small_memory) as server:
        (other,) = server.workers("other")
        message = refusal(server, "eats", 2)
        assert "was ended by signal 9, as when memory runs out" in message
        for model in ("eats", "other"):
            assert np.array_equal(infer(server, model), np.ones((1, 4)))
        assert server.workers("other") == [other]


def test_a_missing_module_names_the_package_and_the_environment(tmp_path):
    write_model(tmp_path, "m", config("python"), {"model.py": "import no_such_package\n"})
    with Server(tmp_path, "--exit-on-error=false", "--strict-readiness=false") as server:
        server.wait_for(lambda: "| m " in server.log())
        assert "No module named 'no_such_package' (looked for in the environment of " in server.log()


def test_exit_in_execute_is_an_error_and_not_an_end(tmp_path):
    python_model(tmp_path, "m", HEAD + "    def execute(self, requests):\n        raise SystemExit(3)\n")
    with Server(tmp_path) as server:
        (worker,) = server.workers()
        assert "SystemExit: 3" in refusal(server, "m")
        assert server.workers() == [worker]


def test_memory_that_is_not_there(tmp_path):
    body = """
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", self.big())]) for _ in requests]

    def big(self):
        return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1, 1 << 40), (0, 0))
"""
    python_model(tmp_path, "m", HEAD + body)
    with Server(tmp_path) as server:
        assert "Unable to allocate 4.00 TiB" in refusal(server, "m")
        assert len(server.workers()) == 1
