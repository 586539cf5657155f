"""Clients that behave badly, many at a time, and what the server makes of them.

    python scripts/abuse.py [--connections 10000] [--streams 1000] [--seconds 10]

Starts target/release/nereid (or $NEREID_BIN) with the identity backend, lets one kind of bad client
after the other loose on it, and asks it a good question all the while. Prints for each kind how long
the good answers took and how much memory the server had. Fails if a good question is not answered
within --patience seconds, or if memory grows by more than --memory MiB.
"""

import argparse
import contextlib
import resource
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Server, write_model  # noqa: E402
from models import config  # noqa: E402

BODY = b'{"inputs":[{"name":"IN","shape":[1],"datatype":"FP32","data":[1]}]}'
HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n"
GOOD = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def connect(port):
    return socket.create_connection(("127.0.0.1", port), 30)


def resident_mib(pid):
    for line in Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0


def good_question(port):
    """Seconds that one good request takes on a connection of its own."""
    begin = time.monotonic()
    with connect(port) as connection:
        connection.sendall(GOOD)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200"), "a good request was refused"
    return time.monotonic() - begin


class Watch:
    """Asks good questions until it is told to stop."""

    def __init__(self, server):
        self.server, self.times, self.memory, self.error = server, [], 0, None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.done.is_set():
                self.times.append(good_question(self.server.port))
                self.memory = max(self.memory, resident_mib(self.server.process.pid))
                self.done.wait(0.02)
        except Exception as error:  # Reported where the kind of client is known.
            self.error = error

    def stop(self):
        self.done.set()
        self.thread.join()


def idle(server, options, open_connections):
    """Connections on which nothing happens."""
    for _ in range(options.connections):
        open_connections.append(connect(server.port))


def half_a_head(server, options, open_connections):
    """Heads that come a byte at a time and never end."""
    slow = [connect(server.port) for _ in range(options.streams)]
    open_connections.extend(slow)
    deadline = time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        for connection in slow:
            connection.sendall(b"X" if connection.fileno() % 2 else HEAD[:1])
        time.sleep(0.2)


def endless_bodies(server, options, open_connections):
    """Bodies in chunks that never end, as fast as they are taken."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    deadline = time.monotonic() + options.seconds

    def send():
        with contextlib.suppress(OSError), connect(server.port) as connection:
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            while time.monotonic() < deadline:
                connection.sendall(chunk)

    run_together(send, 4)


def bodies_that_stop(server, options, open_connections):
    """Bodies of which a gigabyte is promised and a kilobyte sent."""
    for _ in range(options.streams):
        connection = connect(server.port)
        connection.sendall(HEAD + b"Content-Length: 1000000000\r\n\r\n" + b" " * 1000)
        open_connections.append(connection)


def unread_answers(server, options, open_connections):
    """Large answers that nobody reads."""
    data = b"[%s]" % b",".join([b"1"] * 200_000)
    body = BODY.replace(b"[1]}", data + b"}").replace(b'"shape":[1]', b'"shape":[200000]')
    request = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    for _ in range(20):
        connection = connect(server.port)
        connection.settimeout(2)
        with contextlib.suppress(OSError):
            for _ in range(20):
                connection.sendall(request)
        open_connections.append(connection)


def idle_http2(server, options, open_connections):
    """gRPC connections that say hello and nothing more."""
    for _ in range(options.streams):
        connection = connect(server.grpc_port)
        connection.sendall(PREFACE)
        open_connections.append(connection)


def many_streams(server, options, open_connections):
    """gRPC streams on one connection that are opened and left open."""
    import grpc

    channel = grpc.insecure_channel("127.0.0.1:%d" % server.grpc_port)
    open_connections.append(channel)
    never = threading.Event()
    open_connections.append(Closing(never.set))

    def wait():
        never.wait()
        yield from ()

    stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    open_connections.extend(Closing(stream(wait()).cancel) for _ in range(options.streams))
    time.sleep(options.seconds / 4)


class Closing:
    """Something that ends in its own way."""

    def __init__(self, close):
        self.close = close


def garbage(server, options, open_connections):
    """Bytes that are no HTTP, to both ports."""
    for port in (server.port, server.grpc_port):
        for _ in range(200):
            with contextlib.suppress(OSError), connect(port) as connection:
                connection.sendall(bytes(range(256)) * 8)
                connection.settimeout(5)
                while connection.recv(4096):
                    pass


def resets(server, options, open_connections):
    """Requests whose client resets the connection in the middle."""
    linger = b"\1\0\0\0\0\0\0\0"
    for _ in range(2000):
        connection = connect(server.port)
        connection.sendall(GOOD[:-10])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()


def run_together(work, count):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


KINDS = [
    idle, half_a_head, endless_bodies, bodies_that_stop, unread_answers, idle_http2, many_streams,
    garbage, resets,
]


def abuse(server, kind, options):
    """Lets one kind loose; what there is to say about it, and whether that is good."""
    before = resident_mib(server.process.pid)
    watch, open_connections = Watch(server), []
    try:
        kind(server, options, open_connections)
    finally:
        watch.stop()
        for connection in open_connections:
            with contextlib.suppress(OSError, AttributeError):
                connection.close()
    if watch.error:
        return "%-17s %s" % (kind.__name__, watch.error), False
    times = sorted(watch.times)
    worst, middle = times[-1], times[len(times) // 2]
    text = "%-17s %5d good answers: median %6.1f ms, worst %7.1f ms; memory %5.0f -> %5.0f MiB" % (
        kind.__name__, len(times), middle * 1e3, worst * 1e3, before, watch.memory,
    )
    return text, worst < options.patience and watch.memory - before < options.memory


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--patience", type=float, default=5)
    parser.add_argument("--memory", type=float, default=1024)
    options = parser.parse_args(arguments)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    all_good = True
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, "m", config("identity", max_batch_size=0))
        with Server(folder) as server:
            for kind in KINDS:
                text, good = abuse(server, kind, options)
                print(text if good else text + "  NOT GOOD", flush=True)
                all_good &= good
            good_question(server.port)
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
