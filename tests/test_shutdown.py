"""How the server ends, and what a supervisor hears of it."""

import os
import re
import signal
import socket
import sys
import threading
import time

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from models import HELD, config, python_model

IDENTITY = config("identity", dims="[ 1 ]")
SLOW_START = """
    import pathlib, time

    class TritonPythonModel:
        def initialize(self, args):
            (pathlib.Path(__file__).parent / "begun").touch()
            time.sleep(600)

        def execute(self, requests):
            return []
"""


# Hands over two descriptors, as 3 and 4, to the command behind them.
ACTIVATE = """
import fcntl, os, sys
given = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd in sys.argv[1:3]:
    os.close(int(fd))
for place, fd in enumerate(given, 3):
    os.dup2(fd, place)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[3], sys.argv[3:])
"""


def ask(url, model="held"):
    with httpclient.InferenceServerClient(url) as client:
        tensor = httpclient.InferInput("IN", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.float32([[3]]))
        return client.infer(model, [tensor]).as_numpy("OUT")[0, 0]


class Held:
    """A request that runs until it is let go."""

    def __init__(self, server, repository):
        self.folder = repository / "held/1"
        self.outcome = []
        self.thread = threading.Thread(target=self.run, args=(server.url,))
        self.thread.start()
        server.wait_for((self.folder / "begun").exists)

    def run(self, url):
        try:
            self.outcome.append(ask(url))
        except Exception as error:
            self.outcome.append(error)

    def let_go(self):
        (self.folder / "go").touch()
        self.thread.join(60)
        return self.outcome[0]


@pytest.fixture
def repository(tmp_path):
    python_model(tmp_path, "held", HELD, dims="[ 1 ]")
    write_model(tmp_path, "quick", IDENTITY)
    return tmp_path


def test_requests_that_run_are_answered_and_no_others(repository):
    with Server(repository, "--exit-timeout-secs=60") as server:
        held = Held(server, repository)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(lambda: "waiting for requests" in server.log())
        server.wait_for(lambda: server.get("/v2/health/ready")[0] == 0)
        assert held.let_go() == 3
        assert server.process.wait(60) == 0
        assert "not waiting any longer" not in server.log()


def test_readiness_goes_first(repository):
    with Server(repository, "--exit-notice-secs=60") as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(lambda: server.get("/v2/health/ready")[0] == 400)
        assert server.get("/v2/health/live")[0] == 200
        assert ask(server.url, "quick") == 3
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_patience_ends(repository):
    with Server(repository, "--exit-timeout-secs=1") as server:
        held = Held(server, repository)
        workers = server.workers()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0 and "not waiting any longer" in server.log()
        assert all(not os.path.exists("/proc/%d" % pid) for pid in workers)
        assert isinstance(held.let_go(), Exception)


def test_a_second_signal_ends_at_once(repository):
    with Server(repository, "--exit-timeout-secs=600") as server:
        held = Held(server, repository)
        server.process.send_signal(signal.SIGINT)
        server.wait_for(lambda: "waiting for requests" in server.log())
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0 and "told to stop again" in server.log()
        assert isinstance(held.let_go(), Exception)


def test_a_load_does_not_hold_up_the_end(repository):
    python_model(repository, "slow", SLOW_START, dims="[ 1 ]")
    with Server(repository, "--exit-timeout-secs=600", wait_ready=False) as server:
        server.wait_for((repository / "slow/1/begun").exists)
        workers = server.workers()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        wait_gone(workers)


def wait_gone(pids):
    deadline = time.monotonic() + 30
    while any(os.path.exists("/proc/%d" % pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sockets_may_be_handed_over(repository):
    """As systemd does it: descriptors from 3 on, for the process that LISTEN_PID names."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [listener.getsockname()[1] for listener in sockets]
    with Server(
        repository,
        "--allow-metrics=false",
        prefix=[sys.executable, "-c", ACTIVATE, *(str(s.fileno()) for s in sockets)],
        env={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "grpc:http"},
        pass_fds=[s.fileno() for s in sockets],
    ) as server:
        assert (server.grpc_port, server.port) == tuple(ports)
        for listener in sockets:
            listener.close()
        assert ask(server.url, "quick") == 3
        [worker] = server.workers()
        held = os.listdir("/proc/%d/fd" % worker)
        links = [os.readlink("/proc/%d/fd/%s" % (worker, fd)) for fd in held]
        assert not [link for link in links if link.startswith("socket:")]


def test_a_supervisor_is_told(repository, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("notify") / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(path)
        # From the start: the kernel keeps ten messages, and drops those that come then.
        heard = []
        listener = threading.Thread(target=listen, args=(supervisor, heard), daemon=True)
        listener.start()
        with Server(repository, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}) as server:
            server.wait_for(lambda: "READY=1" in heard and heard.count("WATCHDOG=1") > 2)
            assert server.get("/v2/health/ready")[0] == 200
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0
        # What was sent before this has been heard before it.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(path)
            sender.send(END)
        listener.join(60)
        [last] = [line for line in heard if "STOPPING=1" in line]
        assert re.search(r"EXTEND_TIMEOUT_USEC=\d+", last)


END = b"that is all"


def listen(supervisor, heard):
    while (message := supervisor.recv(4096)) != END:
        heard.append(message.decode())
