"""Writes trained nets into both repositories, as ONNX and as TorchScript, and compares them."""

import argparse
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from nets import CROP, PLATE, Detector, Reader, Straightener
from torch import nn

EXAMPLE = Path(__file__).resolve().parents[1]
OPSET = 16


def load(folder):
    detector = Detector()
    detector.load_state_dict(torch.load(os.path.join(folder, "detector.ckpt"))["averages"])
    both = nn.ModuleDict({"stn": Straightener(), "reader": Reader()})
    both.load_state_dict(torch.load(os.path.join(folder, "reader.ckpt"))["averages"])
    return detector.eval(), both["stn"].eval(), both["reader"].eval()


def to_onnx(net, example, path, input_name, output_name, axes):
    torch.onnx.export(
        net,
        example,
        str(path),
        opset_version=OPSET,
        input_names=[input_name],
        output_names=[output_name],
        dynamic_axes={input_name: axes, output_name: {0: "batch"}},
        do_constant_folding=True,
    )
    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    # Names of the author's files and functions are of no use to anybody.
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, str(path))


def compare(name, net, scripted, path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for value in inputs:
        with torch.no_grad():
            truth, script = net(value).numpy(), scripted(value).numpy()
        (answer,) = session.run(None, {session.get_inputs()[0].name: value.numpy()})
        for other in (script, answer):
            scale = np.maximum(np.abs(truth), 1)
            worst = max(worst, float((np.abs(other - truth) / scale).max()))
    print(f"{name}: differs by {worst:.1e} at most, {path.stat().st_size / 1e6:.2f} MB")
    assert worst < 1e-4, name


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoints", default="checkpoints")
    parser.add_argument("--into", type=Path, default=EXAMPLE, help="folder of both repositories")
    options = parser.parse_args()
    torch.manual_seed(0)
    detector, stn, reader = load(options.checkpoints)
    onnx_models, torch_models = options.into / "models", options.into / "models-article"
    batch, both = {0: "batch"}, {0: "batch", 2: "height", 3: "width"}
    pictures = [torch.rand(n, 3, h, w) for n, h, w in ((1, 384, 640), (2, 640, 480), (3, 64, 96))]
    crops = [torch.randn(n, 3, *CROP).clamp(-1, 1) for n in (1, 8, 32)]
    plates = [torch.randn(n, 3, *PLATE).clamp(-1, 1) for n in (1, 8, 32)]
    for name, net, values, ports, axes, script in (
        ("detector", detector, pictures, ("pictures", "boxes"), both, "yolo/1/detector.pt"),
        ("stn", stn, crops, ("crops", "plates"), batch, "stn/1/model.pt"),
        ("lprnet", reader, plates, ("plates", "logits"), batch, "lprnet/1/model.pt"),
    ):
        path = onnx_models / name / "1" / "model.onnx"
        to_onnx(net, values[1], path, *ports, axes)
        scripted = torch.jit.trace(net, values[1])
        scripted.save(str(torch_models / script))
        compare(name, net, scripted, path, values)


if __name__ == "__main__":
    main()
