"""The scripts that train the number-plate example's nets: they run, go on, export, and measure."""

import csv
import importlib
import sys

import pytest
from harness import ROOT

pytest.importorskip("torch")

EXAMPLE = ROOT / "examples/plates"
sys.path[:0] = [str(EXAMPLE), str(EXAMPLE / "train")]
NETS = ("models/detector", "models/stn", "models/lprnet")
SCRIPTED = ("models-article/yolo", "models-article/stn", "models-article/lprnet")


def script(name, *arguments, **constants):
    """Runs a script's main() here: to import torch once is most of what these tests cost."""
    module = importlib.import_module(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        for constant, value in constants.items():
            patch.setattr(module, constant, value)
        module.main()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Checkpoints after one small step, begun from the example's own weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for net in ("reader", "detector"):
        begin = ("--begin", EXAMPLE / "models-article", "--out", folder)
        script("train_" + net, "--steps", 1, *begin, BATCH=2, EVERY=1)
    return folder


def test_a_run_is_gone_on_with(trained):
    import torch

    before = torch.load(trained / "reader.ckpt")
    assert before["step"] == 1
    script("train_reader", "--steps", 2, "--out", trained, BATCH=2, EVERY=1)
    after = torch.load(trained / "reader.ckpt")
    assert after["step"] == 2 and after["spent"] > before["spent"]
    with open(trained / "reader.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]


def test_nets_are_exported_alike(trained, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    for net in NETS + SCRIPTED:
        (tmp_path / net / "1").mkdir(parents=True)
    # Compares ONNX, TorchScript and PyTorch, and fails where they differ by more than 1e-4.
    script("export", "--checkpoints", trained, "--into", tmp_path)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in shown] == ["detector", "stn", "lprnet"]
    for net in NETS:
        # Nothing is lost on the way: as large as what is in the project.
        ours = (EXAMPLE / net / "1/model.onnx").stat().st_size
        assert (tmp_path / net / "1/model.onnx").stat().st_size == pytest.approx(ours, rel=0.01)


def test_labelled_pictures_are_measured(tmp_path, capsys):
    script("held_out", tmp_path, "--count", 2, "--transfer")
    with open(tmp_path / "labels.csv", newline="") as file:
        plates = list(csv.DictReader(file))
    script("evaluate", tmp_path)
    shown = capsys.readouterr().out
    assert "photos 2, plates %d" % len(plates) in shown
    for line in ("detector: recall", "reader on labelled boxes", "end to end"):
        assert line in shown
