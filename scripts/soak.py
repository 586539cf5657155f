"""Runs a server for long under a mixed load and shows whether anything grows.

    .venv/bin/python scripts/soak.py [--requests 1000000] [--calls 200000] [--connections 8]

Three kinds of requests at the same time: a Python identity model (`--requests`), and `--calls`
requests of which most call other models (BLS), some listen to a decoupled model, and some are
cancelled while they run: by their clients, or by the model that made the call. At the start, in the
middle and at the end it prints resident memory of the server and of all workers, open files, and
what lies in /dev/shm. It ends with an error if files or /dev/shm have grown, or memory by more than
a tenth.
"""

import argparse
import http.client
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Server, write_model  # noqa: E402

CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
HEAD = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

def call(model, request):
    return pb_utils.InferenceRequest(
        model_name=model, requested_output_names=["OUT"], inputs=request.inputs())

def out(tensor):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])

class TritonPythonModel:
"""
IDENTITY = """
    def execute(self, requests):
        return [out(r.inputs()[0]) for r in requests]
"""
DECOUPLED = """
    def execute(self, requests):
        for r in requests:
            sender = r.get_response_sender()
            for _ in range(3):
                sender.send(out(r.inputs()[0]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
# Answers when it is cancelled, or when a client has waited long enough.
PATIENT = """
    def execute(self, requests):
        until = time.monotonic() + 0.05
        while not requests[0].is_cancelled() and time.monotonic() < until:
            time.sleep(0.0005)
        return [out(r.inputs()[0]) for r in requests]
"""
CALLS = """
    def execute(self, requests):
        responses = []
        for r in requests:
            answer = call("identity", r).exec()
            responses.append(out(answer.output_tensors()[0]))
        return responses
"""
LISTENS = """
    def execute(self, requests):
        responses = []
        for r in requests:
            for answer in call("decoupled", r).exec(decoupled=True):
                if answer.output_tensors():
                    last = answer
            responses.append(out(last.output_tensors()[0]))
        return responses
"""
CANCELS = """
    def execute(self, requests):
        responses = []
        for r in requests:
            answers = call("decoupled", r).exec(decoupled=True)
            responses.append(out(next(answers).output_tensors()[0]))
            answers.cancel()
        return responses
"""
MODELS = {
    "identity": (IDENTITY, ""),
    "decoupled": (DECOUPLED, "model_transaction_policy { decoupled: true }"),
    "patient": (PATIENT, ""),
    "calls": (CALLS, ""),
    "listens": (LISTENS, ""),
    "cancels": (CANCELS, ""),
}
# Of twenty requests that are not to `identity`; None: the client hangs up.
MIXTURE = ["calls"] * 14 + ["listens"] * 3 + ["cancels"] * 2 + [None]


def body(elements):
    values = [1.5] * elements
    tensor = {"name": "IN", "shape": [elements], "datatype": "FP32", "data": values}
    return json.dumps({"inputs": [tensor]})


# A large tensor goes through shared memory; now and then is enough.
SMALL, LARGE = body(16), body(20000)


class Load:
    """Connections that ask without a pause until the numbers are used up."""

    def __init__(self, port, requests, calls, connections):
        self.port = port
        self.left = {"identity": itertools.count(), "mixture": itertools.count()}
        self.ends = {"identity": requests, "mixture": calls}
        self.failures = []
        kinds = itertools.cycle(["identity", "mixture"])
        self.threads = [
            threading.Thread(target=self.ask, args=(next(kinds),)) for _ in range(connections)
        ]

    def run(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()

    def ask(self, kind):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for number in self.left[kind]:
            if number >= self.ends[kind] or len(self.failures) > 5:
                break
            model = "identity" if kind == "identity" else MIXTURE[number % len(MIXTURE)]
            connection.request(
                "POST",
                "/v2/models/%s/infer" % (model or "patient"),
                LARGE if number % 1000 == 0 else SMALL,
            )
            if model is None:
                connection.close()
                continue
            reply = connection.getresponse()
            answer = reply.read()
            if reply.status != 200:
                self.failures.append((model, answer[:300]))
        connection.close()


def resident(pid):
    """MiB of memory that belong to the process alone, not to the arena that all share."""
    for line in Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def files(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def arena(pid):
    """MiB of the arena that are in use or kept for use."""
    kilobytes = 0
    inside = False
    for line in Path("/proc/%d/smaps" % pid).read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = "memfd:" in line
        elif inside and line.startswith("Rss:"):
            kilobytes += int(line.split()[1])
    return kilobytes / 1024


def look(when, server):
    """Prints one line of figures and returns them."""
    workers = server.workers()
    figures = {
        "server MiB": resident(server.process.pid),
        "workers MiB": sum(resident(pid) for pid in workers),
        "arena MiB": arena(server.process.pid),
        "server files": files(server.process.pid),
        "worker files": sum(files(pid) for pid in workers),
        "/dev/shm": len(os.listdir("/dev/shm")),
    }
    print("%-8s" % when, "  ".join("%s %.5g" % item for item in figures.items()), flush=True)
    return figures


def grown(before, after):
    """What has grown more than it may between two looks."""
    bounds = {"server MiB": (1.1, 8), "workers MiB": (1.1, 8), "arena MiB": (1.5, 32)}
    found = []
    for name, value in before.items():
        factor, more = bounds.get(name, (1, 0))
        if after[name] > max(value * factor, value + more):
            found.append("%s: %.5g, then %.5g" % (name, value, after[name]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, (text, more) in MODELS.items():
            write_model(folder, name, CONFIG + more, {"model.py": HEAD + text})
        with Server(folder) as server:
            failures = []

            def load(share):
                part = Load(
                    server.port,
                    int(options.requests * share),
                    int(options.calls * share),
                    options.connections,
                )
                part.run()
                failures.extend(part.failures)

            began = time.monotonic()
            load(0.1)  # Buffers have found their sizes after that.
            start = look("start", server)
            load(0.45)
            look("middle", server)
            load(0.45)
            end = look("end", server)
            took = time.monotonic() - began
            workers = len(server.workers())
            print("%d requests in %.0f s" % (options.requests + options.calls, took))
            problems = ["%s: %s" % failure for failure in failures] + grown(start, end)
            if workers != len(MODELS):
                problems.append("%d workers for %d models" % (workers, len(MODELS)))
    for problem in problems:
        print(problem)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
