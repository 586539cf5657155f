#!/usr/bin/env python3
"""How soon an idle model with a queue policy answers: requests one after the other.

    scripts/idle_latency.py write FOLDER         # a repository; serve it with whatever is to be measured
    scripts/idle_latency.py measure HOST:PORT [--requests 1000]
"""

import argparse
import http.client
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from harness import write_model  # noqa: E402
from models import IDENTITY_MODEL, config  # noqa: E402

POLICIES = {
    "plain": "dynamic_batching { }",
    "limited": "dynamic_batching { default_queue_policy { max_queue_size: 100 } }",
    "timed": "dynamic_batching { default_queue_policy { default_timeout_microseconds: 5000000 } }",
    "priorities": "dynamic_batching { priority_levels: 2 default_priority_level: 1 }",
}


# Requests before those that count: the first make the connection and wake the worker.
WARM = 50


def measure(address, model, count):
    """Milliseconds of each request."""
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}
    body = json.dumps({"inputs": [tensor]})
    connection = http.client.HTTPConnection(address, timeout=60)
    took = []
    for _ in range(WARM + count):
        began = time.perf_counter()
        connection.request("POST", "/v2/models/%s/infer" % model, body)
        reply = connection.getresponse()
        text = reply.read()
        took.append((time.perf_counter() - began) * 1000)
        assert reply.status == 200, text
    return sorted(took[WARM:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["write", "measure"])
    parser.add_argument("where", help="a folder, or the address of a server")
    parser.add_argument("--requests", type=int, default=1000)
    arguments = parser.parse_args()
    for model, policy in POLICIES.items():
        if arguments.what == "write":
            files = {"model.py": IDENTITY_MODEL}
            write_model(arguments.where, model, config("python", more=policy), files)
            continue
        took = measure(arguments.where, model, arguments.requests)
        count = len(took)
        print(
            "%-10s p50 %.2f ms  p99 %.2f ms  max %.1f ms  over 1 ms: %d, over 100 ms: %d of %d"
            % (
                model, took[count // 2], took[count * 99 // 100], took[-1],
                sum(ms > 1 for ms in took), sum(ms > 100 for ms in took), count,
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
