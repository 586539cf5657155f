"""Swaps versions of models while clients ask for them, and shows that nobody notices.

    .venv/bin/python scripts/swap.py [--swaps 300] [--clients 16] [--corrupt 0.2] [--backends onnx,torch,python]

For each backend: a model whose answers tell its version, `--clients` connections that ask without a
pause, and `--swaps` loads that alternate between versions 1 and 2 by the version policy of the
configuration that the load brings along. It counts requests that failed, and answers of a version
that was not published at any moment between the request and its answer; and it compares latencies
during swaps with those of the same time without. Then the same with a share `--corrupt` of broken
new versions: those loads must fail and the version before must serve on. Ends with an error if
anything failed.
"""

import argparse
import json
import random
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np  # noqa: E402
import tritonclient.http as httpclient  # noqa: E402
from harness import Server  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

PYTHON = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        get = pb_utils.get_input_tensor_by_name
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", get(r, "IN").as_numpy() + np.float32(%d))])
            for r in requests
        ]
"""


def write_python(file, version):
    file.with_name("model.py").write_text(PYTHON % version)


def write_onnx(file, version):
    from onnx import TensorProto, helper, numpy_helper, save

    shape = ["batch", 4]
    graph = helper.make_graph(
        [helper.make_node("Add", ["IN", "by"], ["OUT"])],
        "adds",
        [helper.make_tensor_value_info("IN", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("OUT", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32([version]), "by")],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(file.with_name("model.onnx")))


def write_torch(file, version):
    import torch

    class Adds(torch.nn.Module):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.by

    torch.jit.script(Adds(float(version))).save(str(file.with_name("model.pt")))


BACKENDS = {
    "python": ("python", "model.py", write_python),
    "onnx": ("onnxruntime", "model.onnx", write_onnx),
    "torch": ("pytorch", "model.pt", write_torch),
}


def configuration(backend, *versions):
    tensor = {"data_type": "TYPE_FP32", "dims": [4]}
    return {
        "backend": backend,
        "max_batch_size": 8,
        "input": [{"name": "IN", **tensor}],
        "output": [{"name": "OUT", **tensor}],
        "version_policy": {"specific": {"versions": list(versions)}},
    }


class Published:
    """Which versions may have answered, and since when. A swap makes both possible until it is over."""

    def __init__(self, version):
        self.lock = threading.Lock()
        self.spans = [[version, time.monotonic(), None]]

    def swap(self, version, load):
        """Publishes `version` by `load`, which says whether that worked."""
        with self.lock:
            old = self.spans[-1]
            span = [version, time.monotonic(), None]
            self.spans.append(span)
        worked = load()
        with self.lock:
            now = time.monotonic()
            (old if worked else span)[2] = now
            if not worked:
                self.spans.remove(span)
        return worked

    def allows(self, version, began, ended):
        with self.lock:
            spans = list(self.spans[-8:])
        return any(
            known == version and start <= ended and (end is None or end >= began)
            for known, start, end in spans
        )


class Clients:
    """Ask until they are told to stop; `times` are their latencies."""

    def __init__(self, url, count, published):
        self.url, self.published = url, published
        self.stop = threading.Event()
        self.times, self.failures, self.wrong = [], [], []
        self.threads = [threading.Thread(target=self.ask) for _ in range(count)]

    def ask(self):
        client = httpclient.InferenceServerClient(self.url)
        tensor = httpclient.InferInput("IN", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                answer = client.infer("swapped", [tensor])
            except Exception as error:
                self.failures.append(str(error))
                continue
            ended = time.monotonic()
            self.times.append(ended - began)
            value = answer.as_numpy("OUT")[0, 0]
            named = int(answer.get_response()["model_version"])
            if value != named or not self.published.allows(named, began, ended):
                self.wrong.append((named, float(value)))
        client.close()

    def wait_for(self, answers):
        """Until there are so many answers more, or something has failed."""
        goal = len(self.times) + answers
        while len(self.times) < goal and not self.failures:
            time.sleep(0.001)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.wait_for(len(self.threads))
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def percentile(times, share):
    if not times:
        return float("nan")
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


def measure(options, kind, corrupt):
    """One backend; the row of the table and whether all was well."""
    backend, name, write = BACKENDS[kind]
    with tempfile.TemporaryDirectory(prefix="nereid-swap-") as folder:
        repository = Path(folder)
        for version in (1, 2, 3):
            file = repository / "swapped" / str(version) / name
            file.parent.mkdir(parents=True)
            write(file, version)
        # Version 3 is there to be broken.
        broken = repository / "swapped/3" / name
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2] + b"(")
        (repository / "swapped/config.pbtxt").write_text(textwrap.dedent("""
            backend: "%s"
            max_batch_size: 8
            input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
            output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
            version_policy { specific { versions: [ 1 ] } }
        """ % backend))
        flags = ["--model-control-mode=explicit", "--load-model=swapped", "--log-info=false"]
        flags = [flag for flag in flags if not flag.startswith("--log")]
        with Server(repository, *flags) as server:
            return swap(options, server, backend, corrupt)


def swap(options, server, backend, corrupt):
    control = httpclient.InferenceServerClient(server.url, network_timeout=600)
    published = Published(1)
    chance = random.Random(7)
    began = time.monotonic()
    with Clients(server.url, options.clients, published) as clients:
        current, refused, unexpected = 1, 0, []
        for _ in range(options.swaps):
            target = 3 if chance.random() < corrupt else 3 - current

            def load():
                try:
                    control.load_model("swapped", config=json.dumps(configuration(backend, target)))
                    return True
                except InferenceServerException as error:
                    if target != 3:
                        unexpected.append(str(error))
                    return False

            if published.swap(target, load):
                current = target
            else:
                refused += 1
            clients.wait_for(options.clients)
    took = time.monotonic() - began
    with Clients(server.url, options.clients, published) as calm:
        time.sleep(max(1.0, min(took, options.calm)))
    control.close()
    fine = not (clients.failures or clients.wrong or unexpected or calm.failures or calm.wrong)
    for problem in (clients.failures[:3], clients.wrong[:3], unexpected[:3]):
        if problem:
            print(problem, file=sys.stderr)
    row = [
        backend,
        "%d (%d refused)" % (options.swaps, refused),
        len(clients.times),
        len(clients.failures),
        len(clients.wrong),
        "%.1f s" % took,
        "%.1f / %.1f ms" % (percentile(clients.times, 0.5), percentile(clients.times, 0.99)),
        "%.1f / %.1f ms" % (percentile(calm.times, 0.5), percentile(calm.times, 0.99)),
    ]
    return row, fine


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--swaps", type=int, default=300)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--corrupt", type=float, default=0.2)
    parser.add_argument("--calm", type=float, default=15.0, help="most seconds to measure without swaps")
    parser.add_argument("--backends", default="onnx,torch,python")
    options = parser.parse_args()
    head = ["backend", "swaps", "answers", "failed", "wrong version", "took", "p50 / p99", "without swaps"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    fine = True
    for corrupt in dict.fromkeys((0.0, options.corrupt)):
        for kind in options.backends.split(","):
            row, well = measure(options, kind, corrupt)
            fine &= well
            print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
