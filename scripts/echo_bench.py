#!/usr/bin/env python3
"""The built-in `identity` model against a bare hyper and a bare tonic that send back the same bytes, in
one run: 64 B, 64 KiB and 6 MB over HTTP, gRPC and shared memory.

    cargo build --release && cargo build --release -p nereid-grpc --examples
    .venv/bin/python scripts/echo_bench.py [--seconds 2] [--rounds 3] [--connections 1 8]

The aim is 80 % of theirs. Rounds alternate between the servers; medians are shown.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tritonclient.utils.shared_memory as shm
from tritonclient import http as httpclient
from tritonclient.grpc import service_pb2 as messages

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness import Server, write_model  # noqa: E402

EXAMPLES = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/examples"
SIZES = {"64 B": 64, "64 KiB": 64 << 10, "6 MB": 6_000_000}
CONFIG = """
    backend: "identity"
    input [ { name: "IN" data_type: TYPE_UINT8 dims: [ -1 ] } ]
    output [ { name: "OUT" data_type: TYPE_UINT8 dims: [ -1 ] } ]
"""


def http_request(header, payload, model="echo"):
    """A whole request: JSON and the tensor behind it."""
    text = json.dumps(header, separators=(",", ":")).encode()
    head = (
        "POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
        "Inference-Header-Content-Length: %d\r\n\r\n" % (model, len(text) + len(payload), len(text))
    )
    return head.encode() + text + payload


def http_binary(size, model="echo", datatype="UINT8", shape=None):
    tensor = {"name": "IN", "datatype": datatype, "shape": shape or [size]}
    tensor["parameters"] = {"binary_data_size": size}
    header = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    return http_request(header, bytes(size), model)


def places(size):
    return {"shared_memory_region": "in", "shared_memory_byte_size": size}, {
        "shared_memory_region": "out",
        "shared_memory_byte_size": size,
    }


def http_shared(size, model="echo", datatype="UINT8", shape=None):
    given, taken = places(size)
    tensor = {"name": "IN", "datatype": datatype, "shape": shape or [size], "parameters": given}
    header = {"inputs": [tensor], "outputs": [{"name": "OUT", "parameters": taken}]}
    return http_request(header, b"", model)


def grpc_binary(size, model="echo", datatype="UINT8", shape=None):
    request = messages.ModelInferRequest(model_name=model, raw_input_contents=[bytes(size)])
    request.inputs.add(name="IN", datatype=datatype, shape=shape or [size])
    return request.SerializeToString()


def grpc_shared(size, model="echo", datatype="UINT8", shape=None):
    request = messages.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="IN", datatype=datatype, shape=shape or [size])
    output = request.outputs.add(name="OUT")
    for holder, place in zip((tensor, output), places(size)):
        holder.parameters["shared_memory_region"].string_param = place["shared_memory_region"]
        holder.parameters["shared_memory_byte_size"].int64_param = size
    return request.SerializeToString()


REQUESTS = {"http": (http_binary, http_shared), "grpc": (grpc_binary, grpc_shared)}


def load(protocol, port, request, answer, connections, seconds):
    """Requests per second, p50 and p99 in microseconds."""
    command = [EXAMPLES / "load", protocol, port, request, answer, connections, seconds]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


def alternate(protocol, sides, request, answer, connections, options):
    """Rounds, in each of which the ports of both sides have their turn."""
    return [
        [
            load(protocol, ports[protocol], request, answer, connections, options.seconds)
            for ports in sides
        ]
        for _ in range(options.rounds)
    ]


@contextlib.contextmanager
def regions(size, *urls):
    """Registers the regions that `places` names with servers."""
    clients = [httpclient.InferenceServerClient(url) for url in urls]
    handles = []
    try:
        for region in ("in", "out"):
            key = "/nereid_echo_" + region
            handles.append(shm.create_shared_memory_region(region, key, size))
            for client in clients:
                client.unregister_system_shared_memory(region)
                client.register_system_shared_memory(region, key, size)
        shm.set_shared_memory_region(handles[0], [np.zeros(size, np.uint8)])
        yield
    finally:
        for handle in handles:
            shm.destroy_shared_memory_region(handle)


class Echo:
    def __init__(self, kind):
        command = [str(EXAMPLES / "echo"), kind]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def cases(folder):
    for size_name, size in SIZES.items():
        for protocol in ("http", "grpc"):
            for way in ("", "shared memory"):
                sent, shared = REQUESTS[protocol]
                made = shared(size) if way else sent(size)
                file = folder / ("%s-%d-%s" % (protocol, size, way or "sent"))
                file.write_bytes(made)
                yield size_name, protocol, way, file, 0 if way else size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "models", "echo", CONFIG)
        with Server(folder / "models", "--allow-client-shm=true") as server, Echo(
            "hyper"
        ) as hyper, Echo("tonic") as tonic:
            compare(folder, server, {"http": hyper.port, "grpc": tonic.port}, options)


def compare(folder, server, bare, options):
    ours = {"http": server.port, "grpc": server.grpc_port}
    print("| size | protocol | connections | bare p50, rate | Nereid p50, rate | share of the rate |")
    print("|---|---|---|---|---|---|")
    with regions(max(SIZES.values()), server.url):
        for size, protocol, way, file, answer in cases(folder):
            for connections in options.connections:
                rounds = alternate(protocol, (bare, ours), file, answer, connections, options)
                (their_rate, their_p50), (rate, p50) = (
                    [statistics.median(one[side][i] for one in rounds) for i in (0, 1)]
                    for side in (0, 1)
                )
                print(
                    "| %s | %s | %d | %.0f µs, %.0f/s | %.0f µs, %.0f/s | %.0f %% |"
                    % (size, " ".join((protocol, way)).strip(), connections, their_p50, their_rate,
                       p50, rate, 100 * rate / their_rate),
                    flush=True,
                )


if __name__ == "__main__":
    main()
