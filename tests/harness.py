"""Starts the real binary on a model repository in a temporary folder, and ends it again."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BINARY = Path(os.environ.get("NEREID_BIN", ROOT / "target/release/nereid"))
START_LIMIT = 240
REPEATABLE = (
    "--backend-config", "--metrics-config", "--load-model", "--trace-config", "--cache-config",
    "--http-restricted-api", "--grpc-restricted-protocol",
)


def write_model(repository, name, config, files=None, version=1):
    """Writes a model folder: `config` is the text of config.pbtxt, `files` go into the version."""
    version_dir = Path(repository) / name / str(version)
    version_dir.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (Path(repository) / name / "config.pbtxt").write_text(textwrap.dedent(config))
    for file, content in (files or {}).items():
        if isinstance(content, bytes):
            (version_dir / file).write_bytes(content)
        else:
            (version_dir / file).write_text(textwrap.dedent(content))


def _command(repository, *flags):
    """A server on free ports of this machine. Of flags that are given twice the first counts."""
    local = ("--http-address=127.0.0.1", "--grpc-address=127.0.0.1")
    chosen = {}
    for flag in (*flags, *local, "--http-port=0", "--grpc-port=0", "--metrics-port=0"):
        repeatable = flag.startswith(REPEATABLE)
        chosen.setdefault(flag if repeatable else flag.split("=")[0], flag)
    where = ["--model-repository=%s" % repository] if repository is not None else []
    return [str(BINARY), "serve", *where, *chosen.values()]


class Server:
    """A running server. Ends with the `with` block, and with it every process it started."""

    def __init__(
        self,
        repository,
        *flags,
        wait_ready=True,
        prefix=(),
        env=None,
        pass_fds=(),
        repositories=(),
        environment=None,
        ignore_file_limit=False,
    ):
        """`repositories`: more of them. `env` adds to the environment, `environment` is all of it.
        `ignore_file_limit`: a file that is too large is an error, not the end of the process."""
        command = _command(
            repository,
            *flags,
            "--exit-timeout-secs=5",
            "--backend-config=python,python=%s" % sys.executable,
        )
        # A file, not a pipe: what was written before an answer can be read after it.
        self._output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*prefix, *command, *("--model-repository=%s" % more for more in repositories)],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**(environment or os.environ), **(env or {})},
            # Python ignores SIGXFSZ and lets its children do so.
            restore_signals=not ignore_file_limit,
            pass_fds=pass_fds,
        )
        try:
            self._wait_bound()
            if wait_ready:
                self.wait_ready()
        except BaseException:
            self.process.kill()
            raise

    def _wait_bound(self):
        """Until the server has said which ports it took."""
        deadline = time.monotonic() + START_LIMIT
        # The last to be started; without metrics the table of models follows.
        while not re.search(r"Metrics Service at .*\n|\n\| Model", self.log()):
            if self.process.poll() is not None:
                break
            assert time.monotonic() < deadline, "waited too long:\n" + self.log()
            time.sleep(0.005)
        self.port = self._port_of("Started HTTPService")
        self.sagemaker_port = self._port_of("Started Sagemaker HTTPService")
        self.vertex_port = self._port_of("Started Vertex AI HTTPService")
        self.grpc_port = self._port_of("GRPCInferenceService")
        self.metrics_port = self._port_of("Metrics Service")
        assert self.port or self.vertex_port, self.log()

    def _port_of(self, service):
        found = re.search(service + r' at [^"\s]*:(\d+)', self.log())
        return int(found.group(1)) if found else None

    @property
    def url(self):
        return "127.0.0.1:%d" % self.port

    @property
    def grpc_url(self):
        return "127.0.0.1:%d" % self.grpc_port

    def log(self):
        """All that the server and its workers have written."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    @property
    def lines(self):
        """The lines that are complete."""
        return [line for line in self.log().splitlines(keepends=True) if line.endswith("\n")]

    def get(self, path):
        """Status and body of a GET."""
        try:
            with urllib.request.urlopen("http://%s%s" % (self.url, path), timeout=30) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (urllib.error.URLError, ConnectionError):
            return 0, b""  # It has gone; whoever waits will see that from the process.

    def wait_ready(self):
        """Until every model was tried: ready, or the table of models printed."""
        self.wait_for(
            lambda: self.get("/v2/health/ready")[0] == 200 or "| Model" in self.log()
        )

    def wait_for_batches(self, model, sizes):
        """Until the model's statistics show batches of just these sizes: an execution is counted a
        moment after its last answer."""

        def shown():
            _, body = self.get("/v2/models/%s/stats" % model)
            [statistics] = json.loads(body)["model_stats"]
            return [batch["batch_size"] for batch in statistics["batch_stats"]] == sizes

        self.wait_for(shown, limit=30)

    def wait_for(self, condition, limit=START_LIMIT):
        deadline = time.monotonic() + limit
        while not condition():
            assert self.process.poll() is None, "the server has exited:\n" + self.log()
            assert time.monotonic() < deadline, "waited too long:\n" + self.log()
            # What the stock client does asynchronously, it does while gevent is asked to sleep.
            sys.modules.get("gevent", time).sleep(0.01)

    def workers(self, instance=""):
        """Process ids of the workers that are alive: all, or those of an instance."""
        command = ["pgrep", "-P", str(self.process.pid), "-f", "nereid_worker %s" % instance]
        found = subprocess.run(command, capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def stop(self, limit=30):
        """Asks the server to stop; returns its exit code once it and its workers are gone."""
        workers = self.workers()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(limit)
        deadline = time.monotonic() + 5
        while any(_alive(pid) for pid in workers):
            assert time.monotonic() < deadline, "workers have survived the server"
            time.sleep(0.01)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            try:
                self.stop()
            finally:
                if self.process.poll() is None:
                    self.process.kill()
                    self.process.wait()


def _alive(pid):
    try:
        state = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def exit_code(repository, *flags, environment=None):
    """Runs a server that is expected to give up by itself; its exit code and its output."""
    done = subprocess.run(
        _command(repository, *flags),
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_LIMIT,
    )
    return done.returncode, done.stdout + done.stderr
