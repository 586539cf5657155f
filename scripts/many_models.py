"""A repository of many models in every control mode: start, memory, first answer, cost of polling.

    .venv/bin/python scripts/many_models.py [--models 1000] [--backend identity|onnxruntime] [--requests 20000]

For each mode it prints the time from the start of the process until it is ready, the time to the
first answer of a model, the memory that is the server's own, and, in mode `poll`, the processor
time of one look at a repository in which nothing changes, and how long a model that is new or
changed takes to serve. Mode `auto` has room for 50 of the models (`--room`) and answers
`--requests` requests from 16 clients whose choice of model follows Zipf's law; it prints how many of
them found their model loaded. Ends with an error if a request failed.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np  # noqa: E402
import tritonclient.http as httpclient  # noqa: E402
from harness import Server  # noqa: E402

CONFIG = """
backend: "%s"
max_batch_size: 8
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
parameters { key: "memory_bytes" value { string_value: "1" } }
"""
TICKS = os.sysconf("SC_CLK_TCK")


def name(number):
    return "model_%04d" % number


def write(repository, backend, count):
    contents = onnx_model() if backend == "onnxruntime" else None
    for number in range(count):
        version = Path(repository) / name(number) / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(CONFIG % backend)
        if contents:
            (version / "model.onnx").write_bytes(contents)


def onnx_model():
    """A layer with 64 KiB of weights."""
    from onnx import TensorProto, helper, numpy_helper

    shape = ["batch", 4]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["IN", "up"], ["wide"]),
            helper.make_node("MatMul", ["wide", "down"], ["OUT"]),
        ],
        "layers",
        [helper.make_tensor_value_info("IN", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("OUT", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.ones((4, 2048), np.float32), "up"),
            numpy_helper.from_array(np.ones((2048, 4), np.float32), "down"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def own_memory(pid):
    """Megabytes that belong to the process alone."""
    with open("/proc/%d/status" % pid) as status:
        return sum(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) / 1024


def processor_time(pid):
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def ask(client, model):
    tensor = httpclient.InferInput("IN", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    client.infer(model, [tensor])


def start(repository, *flags):
    began = time.monotonic()
    server = Server(repository, *flags, wait_ready=False)
    server.wait_for(lambda: server.get("/v2/health/ready")[0] == 200)
    return server, time.monotonic() - began


def measure(mode, repository, options):
    flags = {
        "none": [],
        "explicit": ["--model-control-mode=explicit"],
        "explicit, all": ["--model-control-mode=explicit", "--load-model=*"],
        "poll": ["--model-control-mode=poll", "--repository-poll-secs=1"],
        "auto": ["--model-control-mode=auto", "--model-memory-budget=%d" % options.room],
    }[mode]
    server, ready = start(repository, *flags)
    fine = True
    with server:
        client = httpclient.InferenceServerClient(server.url, network_timeout=600)
        began = time.monotonic()
        if mode == "explicit":
            client.load_model(name(7))
        ask(client, name(7))
        first = time.monotonic() - began
        memory = own_memory(server.process.pid)
        more = ""
        if mode == "poll":
            more = poll(server, client, repository, options)
        if mode == "auto":
            more, fine = zipf(server, options)
        client.close()
    print(
        "| %s | %.2f s | %.1f ms | %.0f MiB | %s |" % (mode, ready, first * 1000, memory, more), flush=True
    )
    return fine


def poll(server, client, repository, options):
    """The processor time of a look; what the server does without any is taken off."""
    time.sleep(3)
    pid, seconds = server.process.pid, options.poll_seconds
    before = processor_time(pid)
    time.sleep(seconds)
    looks = processor_time(pid) - before
    new = Path(repository) / "late" / "1"
    new.mkdir(parents=True)
    (new.parent / "config.pbtxt").write_text(CONFIG % "identity")
    began = time.monotonic()
    server.wait_for(lambda: client.is_model_ready("late"))
    took = time.monotonic() - began
    for file in ("late/config.pbtxt",):
        (Path(repository) / file).unlink()
    new.rmdir()
    new.parent.rmdir()
    return "a look: %.0f ms of processor time; a new model serves after %.1f s" % (looks / seconds * 1000, took)


def zipf(server, options):
    weights = [1 / (rank + 1) ** options.exponent for rank in range(options.models)]
    order = list(range(options.models))
    random.Random(3).shuffle(order)
    failures, times = [], []
    before = server.log().count("successfully loaded")

    def keep_asking(seed):
        chance = random.Random(seed)
        own = httpclient.InferenceServerClient(server.url, network_timeout=600)
        for model in chance.choices(order, weights, k=options.requests // options.clients):
            began = time.monotonic()
            try:
                ask(own, name(model))
            except Exception as error:
                failures.append(str(error))
            times.append(time.monotonic() - began)
        own.close()

    threads = [threading.Thread(target=keep_asking, args=(seed,)) for seed in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loads = server.log().count("successfully loaded") - before
    times.sort()
    for failure in failures[:3]:
        print(failure, file=sys.stderr)
    text = "%d requests, %d failed, %.1f %% found their model loaded (%d loads); p50 %.1f ms, p99 %.1f ms" % (
        len(times),
        len(failures),
        100 * (1 - loads / len(times)),
        loads,
        times[len(times) // 2] * 1000,
        times[int(len(times) * 0.99)] * 1000,
    )
    return text, not failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--backend", default="identity", choices=["identity", "onnxruntime"])
    parser.add_argument("--room", type=int, default=50)
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--exponent", type=float, default=1.1)
    parser.add_argument("--poll-seconds", type=int, default=10)
    options = parser.parse_args()
    print("| mode | ready after | first answer | own memory | |\n|---|---|---|---|---|")
    fine = True
    with tempfile.TemporaryDirectory(prefix="nereid-many-") as repository:
        write(repository, options.backend, options.models)
        for mode in ("none", "explicit", "explicit, all", "poll", "auto"):
            fine &= measure(mode, repository, options)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
