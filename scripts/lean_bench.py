#!/usr/bin/env python3
"""Python models, ensemble and BLS against a Triton server on this machine, in one run, with a client that
costs next to nothing: `perf_analyzer` takes more of two cores for a small request than the servers do,
and so bounds what `scripts/bench.sh` can show.

    scripts/dist.sh
    TRITON_URL=localhost:8000 TRITON_GRPC=localhost:8001 NEREID_BIN=target/dist/nereid \\
        .venv/bin/python scripts/lean_bench.py [--rounds 5] [--seconds 1] [--models identity_py bls3]

With `--shared-memory` tensors are in regions of the client instead of in the messages. The Triton
server must be serving tests/bench_models. Rounds alternate between the servers; medians of p50 and p99
in microseconds and of requests per second are shown, and the medians of the ratios of each round.
"""

import argparse
import math
import os
import statistics
import tempfile
from pathlib import Path

from echo_bench import REQUESTS, ROOT, alternate, regions
from harness import Server

SMALL = "FP32", [1, 16], 4
PICTURE = "UINT8", [1080, 1920, 3], 1
# Datatype, shape and bytes of an element.
TENSORS = {
    "identity_py": SMALL,
    "ensemble3": SMALL,
    "bls3": SMALL,
    "bls3_threads": SMALL,
    "bls3_async": SMALL,
    "image_py": PICTURE,
}


def size(model):
    _, shape, width = TENSORS[model]
    return width * math.prod(shape)


def requests(options, folder):
    """Each model and protocol, a file with a request, and how many bytes of tensor are answered."""
    for model in options.models:
        datatype, shape, _ = TENSORS[model]
        for protocol in options.protocols:
            file = Path(folder) / "request"
            made = REQUESTS[protocol][options.shared_memory](size(model), model, datatype, shape)
            file.write_bytes(made)
            yield model, protocol, file, 0 if options.shared_memory else size(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--protocols", nargs="+", default=["http", "grpc"])
    parser.add_argument("--models", nargs="+", default=list(TENSORS))
    parser.add_argument("--shared-memory", action="store_true")
    options = parser.parse_args()
    theirs = {
        "http": int(os.environ["TRITON_URL"].rsplit(":", 1)[1]),
        "grpc": int(os.environ["TRITON_GRPC"].rsplit(":", 1)[1]),
    }
    print("| model | protocol | c | p50 µs Triton | Nereid | ratio | p99 Triton | Nereid | ratio "
          "| requests/s Triton | Nereid | ratio |")
    print("|" + "---|" * 12)
    with tempfile.TemporaryDirectory() as name, Server(
        ROOT / "tests/bench_models", "--cache-config=local,size=100000000", "--allow-client-shm=true"
    ) as server, regions(max(map(size, options.models)), os.environ["TRITON_URL"], server.url):
        ours = {"http": server.port, "grpc": server.grpc_port}
        for model, protocol, file, answer in requests(options, name):
            for connections in options.connections:
                rounds = alternate(protocol, (theirs, ours), file, answer, connections, options)
                show(model, protocol, connections, rounds)


def show(model, protocol, connections, rounds):
    row = [model, protocol, str(connections)]
    for figure in (1, 2, 0):  # p50, p99, rate
        theirs, ours = (statistics.median(one[side][figure] for one in rounds) for side in (0, 1))
        ratio = statistics.median(one[1][figure] / one[0][figure] for one in rounds)
        row += ["%.0f" % theirs, "%.0f" % ours, "%.2f" % ratio]
    print("| %s |" % " | ".join(row), flush=True)


if __name__ == "__main__":
    main()
