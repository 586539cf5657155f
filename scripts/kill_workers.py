"""Kills a worker again and again under load and counts who noticed.

    .venv/bin/python scripts/kill_workers.py [--times 100] [--connections 16]

Sixteen connections ask a Python model without a pause while its worker is killed with SIGKILL, as
often as told; four more ask another model. Every request must be answered, those to the other model
with success. Prints the outcomes and the time from each kill to the next success.
"""

import argparse
import http.client
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Server  # noqa: E402
from models import IDENTITY_MODEL, python_model  # noqa: E402

BODY = b'{"inputs":[{"name":"IN","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'


class Load:
    """Connections that ask one model without a pause."""

    def __init__(self, port, model, connections):
        self.port, self.path = port, "/v2/models/%s/infer" % model
        self.outcomes = Counter()
        self.last_success = 0.0
        self.over = False
        self.threads = [threading.Thread(target=self.ask) for _ in range(connections)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.over:
            try:
                connection.request("POST", self.path, BODY)
                reply = connection.getresponse()
                reply.read()
                self.outcomes[reply.status] += 1
                if reply.status == 200:
                    self.last_success = time.monotonic()
            except OSError as error:
                self.outcomes["unanswered: %s" % error] += 1
                connection.close()
        connection.close()

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join()


def kill_and_wait(server, load):
    """Kills the worker; seconds until its model answers again."""
    (worker,) = server.workers("victim_0")
    killed = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    server.wait_for(lambda: server.workers("victim_0") not in ([], [worker]))
    # Answers that were under way when the worker died do not count.
    restarted = time.monotonic()
    server.wait_for(lambda: load.last_success > restarted)
    return load.last_success - killed


def run(times, connections):
    """Outcomes of both models and the times to recovery, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        python_model(folder, "victim", IDENTITY_MODEL)
        python_model(folder, "other", IDENTITY_MODEL)
        with Server(folder) as server:
            loads = Load(server.port, "victim", connections), Load(server.port, "other", 4)
            try:
                recoveries = [kill_and_wait(server, loads[0]) for _ in range(times)]
            finally:
                for load in loads:
                    load.end()
            return loads[0].outcomes, loads[1].outcomes, recoveries


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    victim, other, recoveries = run(options.times, options.connections)
    print("the model whose worker was killed:", dict(victim))
    print("the other model:", dict(other))
    recoveries.sort()
    print(
        "to recovery: median %.2f s, longest %.2f s" % (statistics.median(recoveries), recoveries[-1])
    )
    return set(other) != {200} or not set(victim) <= {200, 500, 503}


if __name__ == "__main__":
    sys.exit(main())
