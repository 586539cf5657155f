"""The response cache in a Redis server: the real binary against a real redis-server (Debian's)."""

import shutil
import socket
import subprocess
import time

import pytest
import tritonclient.http as httpclient
from harness import Server, exit_code
from test_response_cache import ask, repository, runs, statistics  # noqa: F401
from test_security import Authority


@pytest.fixture(autouse=True, scope="module")
def needs_both(tmp_path_factory):
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    _, log = exit_code(tmp_path_factory.mktemp("none"), "--cache-config=redis,port=1")
    if "this build has no cache 'redis'" in log:
        pytest.skip("built without --features nereid/redis")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """A Redis server that keeps nothing on disk."""

    def __init__(self, folder, *flags, tls=()):
        self.port = free_port()
        ports = ["--port", "0", "--tls-port", self.port] if tls else ["--port", self.port]
        command = ["redis-server", *ports, *tls, "--bind", "127.0.0.1", "--save", "", *flags]
        command += ["--appendonly", "no", "--dir", folder, "--daemonize", "no"]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def settings(redis, **more):
    given = {"host": "127.0.0.1", "port": redis.port, **more}
    return ["--cache-config=redis,%s=%s" % pair for pair in given.items()]


def test_servers_share_what_they_have_answered(repository, tmp_path):  # noqa: F811
    with Redis(tmp_path, "--requirepass", "secret") as redis:
        flags = settings(redis, password="secret", db=3)
        with Server(repository, *flags) as one, Server(repository, *flags) as other:
            first, second = (httpclient.InferenceServerClient(s.url) for s in (one, other))
            assert runs(first, [1, 2]) == 1
            # The answer is kept a moment after it was given.
            one.wait_for(lambda: runs(first, [1, 2]) == 1)
            answer = ask(second, [1, 2])
            assert answer.as_numpy("OUT").tolist() == [[1, 2]]
            assert answer.get_response()["parameters"] == {"run": 1}
            assert statistics(second)["cache_hit"] == 1 and statistics(second)["runs"] == 0
            assert runs(second, [1, 3]) == 1, "a run of its own"


def test_a_redis_server_that_is_gone_is_no_reason_not_to_answer(repository, tmp_path):  # noqa: F811
    with Redis(tmp_path) as redis, Server(repository, *settings(redis)) as server:
        client = httpclient.InferenceServerClient(server.url)
        assert runs(client, [1]) == 1
        redis.stop()
        assert ask(client, [2]).as_numpy("OUT").tolist() == [[2]]
        assert ask(client, [2]).as_numpy("OUT").tolist() == [[2]]
        server.wait_for(lambda: "the Redis response cache fails" in server.log())


def test_name_and_password_may_come_from_the_environment(repository, tmp_path, monkeypatch):  # noqa: F811
    users = "--user nereid on >pass ~* +@all --user default off".split()
    with Redis(tmp_path, *users) as redis:
        monkeypatch.setenv("TRITONCACHE_REDIS_USERNAME", "nereid")
        monkeypatch.setenv("TRITONCACHE_REDIS_PASSWORD", "pass")
        with Server(repository, *settings(redis)) as server:
            client = httpclient.InferenceServerClient(server.url)
            assert runs(client, [1]) == 1
            server.wait_for(lambda: runs(client, [1]) and statistics(client)["cache_hit"])
        code, log = exit_code(repository, *settings(redis, password="wrong"))
        assert code == 1 and "Failed to initialize RedisCache" in log


def test_over_tls_both_sides_know_each_other(repository, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = Authority(folder / "ours", "ours"), Authority(folder / "theirs", "theirs")
    certificate, key = ours.sign("redis")
    own, own_key = ours.sign("nereid")
    tls = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", ours.root]
    with Redis(folder, tls=tls) as redis:
        known = settings(redis, tls_enabled="true", cacert=ours.root, cert=own, key=own_key)
        with Server(repository, *known) as server:
            client = httpclient.InferenceServerClient(server.url)
            assert runs(client, [1]) == 1
            server.wait_for(lambda: runs(client, [1]) and statistics(client)["cache_hit"])
        for wrong in (
            settings(redis),
            settings(redis, tls_enabled="true", cacert=theirs.root, cert=own, key=own_key),
            settings(redis, cacert=ours.root),
        ):
            code, log = exit_code(repository, *wrong)
            assert code == 1 and "Failed to initialize RedisCache" in log, log
