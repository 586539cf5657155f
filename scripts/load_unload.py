"""Loads and unloads a model of each backend again and again, and shows where the memory goes.

    .venv/bin/python scripts/load_unload.py [--times 200] [--backends onnx,torch,python] [--megabytes 16]

Prints what the server holds, by itself and with its workers, after a tenth of the rounds, after half
of them and at the end; each round loads a model with weights of `--megabytes`, asks it once and
unloads it. Ends with an error if the second half has brought more than a tenth and two megabytes.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np  # noqa: E402
import tritonclient.http as httpclient  # noqa: E402
from harness import Server  # noqa: E402

CONFIG = """
backend: "%s"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1, 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1, 4 ] } ]
"""
PYTHON = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.weights = np.ones(%d, np.float32)

    def execute(self, requests):
        get = pb_utils.get_input_tensor_by_name
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", get(r, "IN").as_numpy())]) for r in requests]
"""


def write_python(folder, elements):
    (folder / "model.py").write_text(PYTHON % elements)


def write_onnx(folder, elements):
    from onnx import TensorProto, helper, numpy_helper, save

    columns = elements // 4
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["IN", "weights"], ["wide"]),
            helper.make_node("ReduceSum", ["wide"], ["sum"], keepdims=1),
            helper.make_node("Add", ["IN", "sum"], ["OUT"]),
        ],
        "heavy",
        [helper.make_tensor_value_info("IN", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("OUT", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.ones((4, columns), np.float32), "weights")],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(folder / "model.onnx"))


def write_torch(folder, elements):
    import torch

    class Heavy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.ones(4, elements // 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + (x @ self.weights).sum()

    torch.jit.script(Heavy()).save(str(folder / "model.pt"))


BACKENDS = {
    "python": ("python", write_python),
    "onnx": ("onnxruntime", write_onnx),
    "torch": ("pytorch", write_torch),
}


def resident(pid):
    """Kilobytes of a process that are its own."""
    with open("/proc/%d/status" % pid) as status:
        return sum(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


def measure(times, kind, megabytes):
    backend, write = BACKENDS[kind]
    with tempfile.TemporaryDirectory(prefix="nereid-load-") as folder:
        version = Path(folder) / "heavy/1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(CONFIG % backend)
        write(version, megabytes << 18)
        with Server(folder, "--model-control-mode=explicit") as server:
            return rounds(server, times)


def rounds(server, times):
    client = httpclient.InferenceServerClient(server.url, network_timeout=600)
    tensor = httpclient.InferInput("IN", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    held, loaded = {}, 0
    marks = {max(1, times // 10), max(1, times // 2), times}
    for number in range(1, times + 1):
        client.load_model("heavy")
        client.infer("heavy", [tensor])
        if number == times:
            loaded = resident(server.process.pid)
        client.unload_model("heavy")
        # A worker may take a moment to go, and so may memory.
        server.wait_for(lambda: not server.workers())
        if number in marks:
            held[number] = resident(server.process.pid)
    files = len(os.listdir("/proc/%d/fd" % server.process.pid))
    client.close()
    return held, loaded, files


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--backends", default="onnx,torch,python")
    parser.add_argument("--megabytes", type=int, default=16)
    options = parser.parse_args()
    fine = True
    for kind in options.backends.split(","):
        held, loaded, files = measure(options.times, kind, options.megabytes)
        shown = ", ".join("%.1f MiB after %d" % (kilobytes / 1024, at) for at, kilobytes in held.items())
        print("%s: %s (loaded: %.1f MiB); %d files" % (kind, shown, loaded / 1024, files), flush=True)
        middle, last = list(held.values())[-2:] if len(held) > 1 else list(held.values()) * 2
        fine &= last <= middle * 1.1 + 2048
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
