#!/usr/bin/env python3
"""Puts a server under the load that is typical of one: small requests and pictures, over HTTP and gRPC, one
after the other and eight at a time, to Python models, ensembles and models that call others.
`scripts/dist.sh` builds a server for what it then does most."""

import tempfile

from echo_bench import ROOT, load
from harness import Server
from lean_bench import TENSORS, requests

SECONDS = 2


def main():
    with tempfile.TemporaryDirectory() as name, Server(
        ROOT / "tests/bench_models", "--cache-config=local,size=100000000"
    ) as server:
        ports = {"http": server.port, "grpc": server.grpc_port}
        for model, protocol, file, size in requests(TENSORS, ports, name):
            for connections in (1, 8):
                rate, p50, _ = load(protocol, ports[protocol], file, size, connections, SECONDS)
                print("%s, %s, %d at a time: %.0f/s, p50 %.0f µs" % (
                    model, protocol, connections, rate, p50), flush=True)
        assert server.stop() == 0


if __name__ == "__main__":
    main()
