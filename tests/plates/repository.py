"""Builds the article's model repository from the folder with its nets."""

import os
from pathlib import Path

from harness import ROOT, write_model

NETS = Path(os.environ.get("NEREID_PLATES", ROOT.parent / "shared" / "plates"))
HERE = Path(__file__).resolve().parent

TORCH = """
    backend: "pytorch"
    max_batch_size: 32
    input [ { name: "input__0" data_type: TYPE_FP32 dims: [ 3, 24, 94 ] } ]
    output [ { name: "output__0" data_type: TYPE_FP32 dims: [ %s ] } ]
"""
YOLO = """
    backend: "python"
    max_batch_size: 0
    input [ { name: "input__0" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
    output [
        { name: "output__0" data_type: TYPE_FP32 dims: [ -1, 3, 24, 94 ] },
        { name: "output__1" data_type: TYPE_FP32 dims: [ -1, 4 ] }
    ]
"""
PIPELINE = """
    backend: "python"
    max_batch_size: 0
    input [ { name: "input__0" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
    output [
        { name: "coordinates" data_type: TYPE_FP32 dims: [ -1, 4 ] },
        { name: "texts" data_type: TYPE_STRING dims: [ -1, 1 ] }
    ]
"""


def build(repository):
    """Writes the four models."""
    detector = (NETS / "detector_y5fu_320.onnx").read_bytes()
    yolo = (HERE / "yolo.py").read_text()
    write_model(repository, "yolo", YOLO, {"model.py": yolo, "detector.onnx": detector})
    for name, dims in (("stn", "3, 24, 94"), ("lprnet", "23, 18")):
        net = (NETS / (name + ".pt")).read_bytes()
        write_model(repository, name, TORCH % dims, {"model.pt": net})
    pipeline = (HERE / "plate_recognition.py").read_text()
    write_model(repository, "plate_recognition", PIPELINE, {"model.py": pipeline})
