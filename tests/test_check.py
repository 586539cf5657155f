"""`nereid check` on broken repositories, and `nereid init`.

`check/*.txt` hold the repositories and what is said of them; UPDATE_GOLDEN=1 writes that anew.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx_models
import pytest
from harness import BINARY

HERE = Path(__file__).with_name("check")
PYTHON = "--backend-config=python,python=%s" % sys.executable


def nereid(*arguments, cwd):
    return subprocess.run(
        [str(BINARY), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def cases():
    for file in sorted(HERE.glob("*.txt")):
        for part in re.split(r"^=== ", file.read_text(), flags=re.M)[1:]:
            name, rest = part.split("\n", 1)
            yield pytest.param(file, name, rest, id="%s: %s" % (file.stem, name))


def sections(text):
    parts = re.split(r"^--- (.*)\n", text, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def write(path, content, tmp_path):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, _, value = content.strip().partition(": ")
    if kind == "onnx":
        onnx_models.write(tmp_path / "onnx", value)
        path.write_bytes((tmp_path / "onnx" / value / "1/model.onnx").read_bytes())
    elif kind == "torch":
        path.write_bytes(torchscript(tmp_path))
    elif kind == "hex":
        path.write_bytes(bytes.fromhex(value))
    else:
        path.write_text(content)


def torchscript(tmp_path):
    """A module with one argument and one result."""
    torch = pytest.importorskip("torch")

    class One(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    torch.jit.script(One()).save(tmp_path / "one.pt")
    return (tmp_path / "one.pt").read_bytes()


def neutral(text, tmp_path):
    """Without what differs between machines."""
    text = text.replace(str(tmp_path.resolve()), "TMP").replace(sys.executable, "PYTHON")
    text = re.sub(r"\S*/python-worker-[0-9a-f]+/(\S+)\(\d+\)", r"WORKER/\1", text)
    return re.sub(r"for Python 3\.\d+", "for Python 3", text).strip() + "\n"


@pytest.mark.parametrize("file, name, text", cases())
def test_what_is_said_of_a_broken_repository(tmp_path, file, name, text):
    described = sections(text)
    expected = described.pop("said")
    for path, content in described.items():
        write(tmp_path / "models" / path, content, tmp_path)
    done = nereid("check", "models", PYTHON, cwd=tmp_path)
    said = neutral(done.stdout, tmp_path)
    if os.environ.get("UPDATE_GOLDEN"):
        case = "=== %s\n%s" % (name, text)
        told = case.replace("--- said\n" + expected, "--- said\n" + said + "\n")
        file.write_text(file.read_text().replace(case, told))
        return
    assert said.strip() == expected.strip()
    assert done.returncode == (0 if re.search(r" 0 errors, ", said) else 1), done.stderr
    findings = json.loads(nereid("check", "models", PYTHON, "--format=json", cwd=tmp_path).stdout)
    assert all(finding["cure"] for finding in findings["findings"])


def test_warnings_fail_where_they_shall(tmp_path):
    (tmp_path / "models").mkdir()
    assert nereid("check", "models", cwd=tmp_path).returncode == 0
    assert nereid("check", "models", "--strict", cwd=tmp_path).returncode == 1


def test_loading_finds_what_reading_does_not(tmp_path):
    body = "class TritonPythonModel:\n    def initialize(self, args):\n        1 / 0\n    def execute(self, requests):\n        return []\n"
    config = 'backend: "python"\ninput { name: "IN" data_type: TYPE_FP32 dims: 1 }\noutput { name: "OUT" data_type: TYPE_FP32 dims: 1 }\n'
    write(tmp_path / "models/m/1/model.py", body, tmp_path)
    write(tmp_path / "models/m/config.pbtxt", config, tmp_path)
    assert nereid("check", "models", PYTHON, cwd=tmp_path).returncode == 0
    done = nereid("check", "models", PYTHON, "--load", cwd=tmp_path)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stdout


def test_init_writes_what_check_accepts(tmp_path):
    write(tmp_path / "models/net/1/model.onnx", "onnx: sum_and_difference", tmp_path)
    write(tmp_path / "models/code/1/model.py", CODE, tmp_path)
    write(tmp_path / "models/script/1/model.pt", "torch: one", tmp_path)
    for file in ("net/1/model.onnx", "code/1/model.py", "script/1/model.pt"):
        done = nereid("init", "models/" + file, PYTHON, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    net = (tmp_path / "models/net/config.pbtxt").read_text()
    assert 'name: "difference"\n    data_type: TYPE_INT64\n    dims: [ 2 ]' in net
    code = (tmp_path / "models/code/config.pbtxt").read_text()
    assert 'name: "WORDS"' in code and 'name: "COUNT"' in code and "guesses" in code
    assert 'name: "x"' in (tmp_path / "models/script/config.pbtxt").read_text()
    done = nereid("check", "models", PYTHON, "--strict", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    again = nereid("init", "models/net/1/model.onnx", cwd=tmp_path)
    assert again.returncode == 1 and "--force" in again.stderr


def test_the_completed_configurations_are_printed(tmp_path):
    write(tmp_path / "models/net/1/model.onnx", "onnx: scale", tmp_path)
    write(tmp_path / "models/bad/config.pbtxt", "max_batch: 3", tmp_path)
    done = nereid("check", "models", "--print-config", "--backend-config=default-max-batch-size=16", cwd=tmp_path)
    assert done.returncode == 1 and "max_batch" in done.stderr and "bad" not in done.stdout
    (tmp_path / "again/net/1").mkdir(parents=True)
    (tmp_path / "again/net/config.pbtxt").write_text(done.stdout)
    (tmp_path / "models/net/1/model.onnx").rename(tmp_path / "again/net/1/model.onnx")
    json_flags = "--print-config", "--format=json", "--disable-auto-complete-config"
    again = json.loads(nereid("check", "again", *json_flags, cwd=tmp_path).stdout)
    net = again["configs"]["net"]
    assert again["errors"] == 0 and net["max_batch_size"] == 16 and net["backend"] == "onnxruntime"
    assert [tensor["name"] for tensor in net["input"]] == ["x"]


CODE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            words = pb_utils.get_input_tensor_by_name(request, "WORDS")
            yield pb_utils.InferenceResponse([pb_utils.Tensor("COUNT", words.as_numpy())])
"""
