#!/usr/bin/env python3
"""Sends tensors through Python models in every way that memory can go, and looks at every number.

    .venv/bin/python scripts/torture.py [--seconds 60] [--clients 8] [--kills 0] [--seed 1]

Every request's tensor is filled with a number of its own, and every model says what becomes of it.
Models return their inputs, parts of them and what they have written to, keep them, read them behind
their answers, send them on to each other, in threads and in coroutines. Clients send and take tensors
of all sizes over HTTP and gRPC, in messages and through shared memory, which they use again as soon
as they have an answer. With `--kills` so many workers are killed a minute. Ends with an error if
a client or a model has seen another number than it should have.
"""

import argparse
import collections
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Server, write_model  # noqa: E402
from models import chain, config  # noqa: E402

HEAD = """
import asyncio, collections, concurrent.futures, os, random, time
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

def out(x):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", x)])

def check(x, number, where):
    if not np.all(x == number):
        with open(os.path.join(os.path.dirname(__file__), "..", "..", "wrong"), "a") as wrong:
            print("%s: %s instead of %s" % (where, np.unique(x)[:5], number), file=wrong)

def pause():
    time.sleep(random.choice([0, 0, 0.0005, 0.003]))

def call(model, tensor):
    tensor = pb_utils.Tensor("IN", tensor.as_numpy()) if tensor.name() != "IN" else tensor
    return pb_utils.InferenceRequest(
        model_name=model, inputs=[tensor], requested_output_names=["OUT"])

def result(response, what):
    if response.has_error():
        raise pb_utils.TritonModelException("%s: %s" % (what, response.error().message()))
    return pb_utils.get_output_tensor_by_name(response, "OUT")

class Kept:
    def __init__(self, where):
        self.where, self.arrays = where, collections.deque(maxlen=6)

    def keep(self, x, number):
        self.arrays.append((x, number))
        for x, number in list(self.arrays):
            check(x, number, self.where)

class TritonPythonModel:
    def initialize(self, args):
        self.kept = Kept(args["model_name"])
        self.pool = concurrent.futures.ThreadPoolExecutor(4)

    def execute(self, requests):
        return [self.one(r, r.inputs()[0].as_numpy()) for r in requests]
"""

# What each model does, and options of its configuration.
MODELS = {
    "identity": ("""
    def one(self, r, x):
        return out(x)
    """, {}),
    "part": ("""
    def one(self, r, x):
        return out(x[len(x) // 2:])
    """, {}),
    "reversed": ("""
    def one(self, r, x):
        return out(x[::-1])
    """, {}),
    "adds": ("""
    def one(self, r, x):
        return out(x + 1)
    """, {}),
    "writes": ("""
    def one(self, r, x):
        x += 1
        return out(x)
    """, {}),
    "batches": ("""
    def one(self, r, x):
        return out(x)
    """, {"max_batch_size": 4, "more": "dynamic_batching { max_queue_delay_microseconds: 1000 }"}),
    "keeps": ("""
    def one(self, r, x):
        self.kept.keep(x, x[0].copy())
        return out(x)
    """, {}),
    "early": ("""
    def one(self, r, x):
        number = x[0].copy()
        r.get_response_sender().send(out(x), FINAL)
        pause()
        check(x, number, "early")
        x += 1
        self.kept.keep(x, number + 1)
    """, {}),
    "later": ("""
    def execute(self, requests):
        for r in requests:
            self.pool.submit(self.answer, r, r.get_response_sender(), r.inputs()[0].as_numpy())

    def answer(self, r, sender, x):
        number = x[0].copy()
        for _ in range(3):
            pause()
            check(x, number, "later")
            sender.send(out(x))
        sender.send(flags=FINAL)
        pause()
        check(x, number, "later, after its answers")
    """, {"more": "model_transaction_policy { decoupled: true }"}),
    "chain": ("""
    def one(self, r, x):
        number, tensor, given = x[0].copy(), r.inputs()[0], []
        for model in CHAINS[int(number) % len(CHAINS)]:
            tensor = result(call(model, tensor).exec(), model)
            given.append((tensor.as_numpy(), tensor.as_numpy()[0].copy()))
        pause()
        check(x, number, "chain, its input")
        for array, first in given:
            check(array, first, "chain, what it was given")
        self.kept.keep(*given[0])
        return out(tensor.as_numpy())
    """, {}),
    "gathers": ("""
    async def execute(self, requests):
        return [await self.one(r, r.inputs()[0].as_numpy()) for r in requests]

    async def one(self, r, x):
        number = x[0].copy()
        calls = [call(m, r.inputs()[0]).async_exec() for m in ("adds", "writes", "identity", "keeps")]
        given = [result(response, "gathered").as_numpy() for response in await asyncio.gather(*calls)]
        check(x, number, "gathers, its input")
        for array, more in zip(given, (1, 1, 0, 0)):
            check(array, number + more, "gathers")
        return out(given[1])
    """, {"more": 'parameters { key: "EXECUTE_THREADS" value: { string_value: "4" } }'}),
    "listens": ("""
    def one(self, r, x):
        number = x[0].copy()
        responses = list(call("later", r.inputs()[0]).exec(decoupled=True))
        # The last one is empty, unless it says what has happened.
        given = [result(one, "later").as_numpy() for one in responses if one.has_error() or one.output_tensors()]
        for array in given:
            check(array, number, "listens")
        self.kept.keep(given[0], number)
        return out(given[-1])
    """, {}),
}
MODELS["threads"] = MODELS["chain"][0], MODELS["gathers"][1]
# What "steps" is made of, and what "chain" and "threads" call, by the number that they are given.
STEPS = ["keeps", "writes", "early"]
CHAINS = [
    ["identity", "adds"],
    ["writes", "part", "writes"],
    ["early", "keeps"],
    ["native", "writes"],
    ["reversed", "identity", "identity"],
    ["keeps", "part", "early", "adds"],
]
ASKED = [name for name in MODELS if name != "later"] + ["native", "steps"]
SIZES = 1, 100, 2_000, 20_000, 70_001, 300_000


def repository(folder):
    head = "CHAINS = %r\n%s" % (CHAINS, HEAD)
    for name, (body, options) in MODELS.items():
        written = config("python", **{"max_batch_size": 0, **options})
        write_model(folder, name, written, {"model.py": head + body})
    write_model(folder, "native", config("identity", max_batch_size=0))
    write_model(folder, "steps", chain(*STEPS, dims="-1", batch=0))


def expected(model, number, size):
    """The number and the size of what a model answers."""
    steps = {"gathers": ["writes"], "steps": STEPS}.get(model, [model])
    if model in ("chain", "threads"):
        steps = CHAINS[number % len(CHAINS)]
    for step in steps:
        number += step in ("adds", "writes")
        size -= size // 2 if step == "part" else 0
    return number, size


class Client:
    """Sends one request after the other and looks at the answers."""

    def __init__(self, server, index, seed):
        self.random = random.Random(seed * 1000 + index)
        self.module = (httpclient, grpcclient)[index % 2]
        url = (server.url, "127.0.0.1:%d" % server.grpc_port)[index % 2]
        self.client = self.module.InferenceServerClient(url)
        self.number = 1 + index * 100_000
        self.given, self.taken = "in%d" % index, "out%d" % index
        self.regions = {}
        self.register()

    def register(self):
        for name in (self.given, self.taken):
            key = "/nereid_torture_%d_%s_%d" % (os.getpid(), name, self.number)
            self.regions[name] = shm.create_shared_memory_region(name, key, 4 * SIZES[-1])
            self.client.register_system_shared_memory(name, key, 4 * SIZES[-1])

    def unregister(self):
        for name, handle in self.regions.items():
            self.client.unregister_system_shared_memory(name)
            shm.destroy_shared_memory_region(handle)

    def close(self):
        self.unregister()
        self.client.close()

    def one(self):
        """Sends one request; what is wrong with the answer, or None."""
        self.number += 1
        model, size = self.random.choice(ASKED), self.random.choice(SIZES)
        number, left = expected(model, self.number, size)
        through = self.random.random() < 0.5
        output = self.module.InferRequestedOutput("OUT")
        if through:
            output.set_shared_memory(self.taken, 4 * left)
        response = self.client.infer(model, [self.tensor(model, size)], outputs=[output])
        if through:
            got = shm.get_contents_as_numpy(self.regions[self.taken], np.float32, [left])
        else:
            got = response.as_numpy("OUT").ravel()
        if got.size != left or not np.all(got == number):
            return "%s, %d elements: %s instead of %d" % (model, size, np.unique(got)[:5], number)
        return None

    def tensor(self, model, size):
        array = np.full([1, size] if model == "batches" else [size], self.number, np.float32)
        tensor = self.module.InferInput("IN", array.shape, "FP32")
        if self.random.random() < 0.5:
            shm.set_shared_memory_region(self.regions[self.given], [array])
            tensor.set_shared_memory(self.given, array.nbytes)
        else:
            tensor.set_data_from_numpy(array)
        return tensor


def torture(server, options):
    """How many answers were right and how many requests were refused, and what was wrong."""
    counted, wrong = collections.Counter(), []
    over = time.monotonic() + options.seconds

    def run(index):
        client = Client(server, index, options.seed)
        while time.monotonic() < over and len(wrong) < 20:
            try:
                found = client.one()
            except InferenceServerException as error:
                if not options.kills or "was ended by signal 9" not in str(error):
                    wrong.append(str(error))
                counted["refused"] += 1
                # Models that were called by one that has died may still look at its memory.
                client.unregister()
                client.register()
                continue
            counted["right"] += found is None
            wrong.extend([found] if found else [])
        client.close()

    clients = [threading.Thread(target=run, args=(index,)) for index in range(options.clients)]
    for client in clients:
        client.start()
    while options.kills and time.monotonic() < over:
        time.sleep(60 / options.kills)
        for worker in random.sample(server.workers(), 1):
            os.kill(worker, signal.SIGKILL)
    for client in clients:
        client.join()
    return counted, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--kills", type=int, default=0, help="workers that are killed, a minute")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository(folder)
        with Server(folder, "--allow-client-shm=true") as server:
            counted, wrong = torture(server, options)
        said = folder / "wrong"
        wrong += said.read_text().splitlines() if said.exists() else []
    print("%d right, %d refused" % (counted["right"], counted["refused"]))
    print("\n".join(wrong) or "every number was right")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
