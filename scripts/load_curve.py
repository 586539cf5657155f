#!/usr/bin/env python3
"""Goodput and latency of a batching model under rising load, for any servers side by side.

The model takes 5 ms for a batch and 0.5 ms for each of its items. Requests arrive at random
(Poisson) whether those before them are answered or not, at parts of what the model can do with full
batches; their latency counts from the moment at which they were due. Goodput is what was answered
within 50 ms.

    scripts/load_curve.py --write-models /tmp/paced
    scripts/load_curve.py triton=localhost:8000/paced nereid=localhost:8600/paced \\
        nereid-slo=localhost:8600/paced_slo

`paced_slo` differs from `paced` by its latency target, which a Triton server ignores. The target is
that of the server; the client's own time comes on top, so it is a little less than 50 ms.
"""

import argparse
import asyncio
import json
import random
import resource
import time
import urllib.request
from pathlib import Path

LIMIT = 0.050
TARGET_MS = 45
PARTS = (0.25, 0.5, 0.75, 0.95, 1.2, 2.0)
# A client that has waited so long gives up.
PATIENCE = 2.0

CONFIG = """backend: "python"
max_batch_size: %d
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
dynamic_batching {}
instance_group [ { kind: KIND_CPU } ]
"""

SLO = 'parameters { key: "slo_ms" value { string_value: "%d" } }\n' % TARGET_MS

MODEL = """import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.005 + 0.0005 * len(requests))
        tensors = [pb_utils.get_input_tensor_by_name(request, "IN") for request in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
            for tensor in tensors
        ]
"""

BODY = b'{"inputs":[{"name":"IN","shape":[1,1],"datatype":"FP32","data":[1]}]}'


def capacity(max_batch):
    return max_batch / (0.005 + 0.0005 * max_batch)


def write_models(folder, max_batch):
    for name, more in (("paced", ""), ("paced_slo", SLO)):
        version = Path(folder) / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version.parent / "config.pbtxt").write_text(CONFIG % max_batch + more)
        (version / "model.py").write_text(MODEL)


class Connection(asyncio.Protocol):
    """Sends one request at a time; reads no more of an answer than its status and its length."""

    def __init__(self, client):
        self.client = client
        self.due = None
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport

    def send(self, due):
        self.due = due
        self.transport.write(self.client.request)

    def data_received(self, data):
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        if len(body) < length:
            return
        self.received = b""
        due, self.due = self.due, None
        if due is not None:
            self.client.answered(due, ok=head.split(b" ", 2)[1] == b"200")
        self.client.free.append(self)

    def connection_lost(self, _):
        if self.due is not None:
            self.client.failed += 1
        if self in self.client.free:
            self.client.free.remove(self)


class Client:
    """Requests of one model on one server."""

    def __init__(self, target):
        self.url, self.model = target.split("/")
        self.host, port = self.url.rsplit(":", 1)
        self.port = int(port)
        self.free = []
        self.all = []
        self.request = (
            "POST /v2/models/%s/infer HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n"
            % (self.model, self.url, len(BODY))
        ).encode() + BODY
        self.reset()

    def reset(self):
        self.latencies = []
        self.refused = self.failed = 0

    def answered(self, due, ok):
        if ok:
            self.latencies.append(time.perf_counter() - due)
        else:
            self.refused += 1

    async def connection(self):
        if self.free:
            return self.free.pop()
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: Connection(self), self.host, self.port)
        self.all.append(made)
        return made

    async def send(self, due):
        try:
            (await self.connection()).send(due)
        except OSError:
            self.failed += 1

    async def run(self, rate, seconds):
        """Sends at this rate; waits for what is still on its way."""
        self.reset()
        arrivals = random.Random(rate)
        due = time.perf_counter()
        end = due + seconds
        sent = 0
        sending = set()
        while due < end:
            now = time.perf_counter()
            # Answers are read here, too, where several requests are due at once.
            if due > now or sent % 8 == 0:
                await asyncio.sleep(max(due - now, 0))
            if self.free:
                self.free.pop().send(due)
            else:
                task = asyncio.ensure_future(self.send(due))
                sending.add(task)
                task.add_done_callback(sending.discard)
            sent += 1
            due += arrivals.expovariate(rate)
        patience = time.perf_counter() + PATIENCE
        while self.open() and time.perf_counter() < patience:
            await asyncio.sleep(0.01)
        for connection in self.open():
            connection.due = None
            connection.transport.abort()
        return sent

    def open(self):
        return [connection for connection in self.all if connection.due is not None]

    def close(self):
        for connection in self.all:
            connection.transport.abort()
        self.all, self.free = [], []

    def counts(self):
        url = "http://%s/v2/models/%s/stats" % (self.url, self.model)
        with urllib.request.urlopen(url) as reply:
            found = json.load(reply)["model_stats"][0]
        return found["inference_count"], found["execution_count"]


async def settle(client):
    """Until the server has done with what it was left with: the next one shall have the machine."""
    seen = None
    while seen != (seen := client.counts()):
        await asyncio.sleep(0.5)


def quantile(ordered, part):
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


async def measure(name, client, part, rate, seconds):
    before = client.counts()
    sent = await client.run(part * rate, seconds)
    after = client.counts()
    client.close()
    items, batches = (b - a for a, b in zip(before, after))
    ordered = sorted(client.latencies)
    good = sum(latency <= LIMIT for latency in ordered) / seconds
    line = "%-12s %3.0f %%  sent %5.0f/s  goodput %5.0f/s  p50 %7.1f ms  p99 %7.1f ms  "
    line += "batch %4.1f  refused %5.0f/s  unanswered %d"
    print(
        line
        % (
            name,
            100 * part,
            sent / seconds,
            good,
            1000 * quantile(ordered, 0.5),
            1000 * quantile(ordered, 0.99),
            items / max(batches, 1),
            client.refused / seconds,
            sent - len(ordered) - client.refused,
        ),
        flush=True,
    )
    await settle(client)


async def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="*", help="name=host:port/model")
    parser.add_argument("--write-models", metavar="FOLDER")
    parser.add_argument("--max-batch", type=int, default=16, help="of the models written")
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    if arguments.write_models:
        write_models(arguments.write_models, arguments.max_batch)
    full = capacity(arguments.max_batch)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clients = {}
    for target in arguments.target:
        name, where = target.split("=", 1)
        clients[name] = Client(where)
        await clients[name].run(20, 1)  # So that what comes first does not count.
    for part in PARTS:
        for name, client in clients.items():
            await measure(name, client, part, full, arguments.seconds)


if __name__ == "__main__":
    asyncio.run(main())
