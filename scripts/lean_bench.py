#!/usr/bin/env python3
"""Python models, ensemble and BLS against a Triton server on this machine, in one run, with a client that
costs next to nothing: `perf_analyzer` takes more of two cores for a small request than the servers do,
and so bounds what `scripts/bench.sh` can show.

    cargo build --profile dist && cargo build --release -p nereid-grpc --examples
    TRITON_URL=localhost:8000 TRITON_GRPC=localhost:8001 NEREID_BIN=target/dist/nereid \\
        .venv/bin/python scripts/lean_bench.py [--rounds 5] [--seconds 1] [--models identity_py bls3]

The Triton server must be serving tests/bench_models. Rounds alternate between the servers; medians of
p50 and p99 in microseconds and of requests per second are shown, and the medians of the ratios of
each round.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from echo_bench import ROOT, http_request, load
from harness import Server
from tritonclient.grpc import service_pb2 as messages

PICTURE = [1080, 1920, 3]
SHAPES = {
    "identity_py": [1, 16],
    "ensemble3": [1, 16],
    "bls3": [1, 16],
    "bls3_threads": [1, 16],
    "bls3_async": [1, 16],
    "image_py": PICTURE,
}


def request(protocol, model, shape):
    """What the client sends, and how many bytes of tensor the answer has at least."""
    datatype = "UINT8" if shape is PICTURE else "FP32"
    size = 1 if shape is PICTURE else 4
    for dim in shape:
        size *= dim
    if protocol == "grpc":
        message = messages.ModelInferRequest(model_name=model, raw_input_contents=[bytes(size)])
        message.inputs.add(name="IN", datatype=datatype, shape=shape)
        return message.SerializeToString(), size
    tensor = {"name": "IN", "datatype": datatype, "shape": shape}
    tensor["parameters"] = {"binary_data_size": size}
    header = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    return http_request(header, bytes(size), model), size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--protocols", nargs="+", default=["http", "grpc"])
    parser.add_argument("--models", nargs="+", default=list(SHAPES))
    options = parser.parse_args()
    theirs = {
        "http": int(os.environ["TRITON_URL"].rsplit(":", 1)[1]),
        "grpc": int(os.environ["TRITON_GRPC"].rsplit(":", 1)[1]),
    }
    print("| model | protocol | c | p50 µs Triton | Nereid | ratio | p99 Triton | Nereid | ratio "
          "| requests/s Triton | Nereid | ratio |")
    print("|" + "---|" * 12)
    with tempfile.TemporaryDirectory() as name, Server(
        ROOT / "tests/bench_models", "--cache-config=local,size=100000000"
    ) as server:
        ours = {"http": server.port, "grpc": server.grpc_port}
        for model in options.models:
            for protocol in options.protocols:
                body, answer = request(protocol, model, SHAPES[model])
                file = Path(name) / "request"
                file.write_bytes(body)
                for connections in options.connections:
                    rounds = [
                        [
                            load(protocol, ports[protocol], file, answer, connections, options.seconds)
                            for ports in (theirs, ours)
                        ]
                        for _ in range(options.rounds)
                    ]
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
