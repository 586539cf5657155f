"""Which interpreters the worker runs on, and its module without a server."""

import ast
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fake_server import PYTHON, WORKER_DIR
from test_worker import IDENTITY

FILES = sorted(Path(WORKER_DIR).glob("*.py")) + sorted(Path(WORKER_DIR).glob("nereid_worker/*.py"))
OLDEST = (3, 8)
INTERPRETERS = ["python3.%d" % minor for minor in range(8, 15)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_oldest_interpreter_can_read_it(file):
    ast.parse(file.read_text(), feature_version=OLDEST)


@pytest.mark.parametrize("name", INTERPRETERS)
def test_interpreters_that_are_here(serve, name):
    python = shutil.which(name)
    asked = [python, "-c", "import numpy"]
    if python is None or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("there is no %s with numpy" % name)
    array = np.arange(4)
    tensors, _ = serve(IDENTITY, python=python).execute(1, ("IN", array))
    assert (tensors["OUT"].array() == array).all()


ALONE = """
import numpy as np
import triton_python_backend_utils as pb_utils

tensor = pb_utils.Tensor("IN", np.arange(3))
request = pb_utils.InferenceRequest(
    model_name="m", inputs=[tensor], requested_output_names=["OUT"], parameters={"a": 1})
assert pb_utils.get_input_tensor_by_name(request, "IN") is tensor
assert request.parameters() == '{"a": 1}' and request.trace().get_context() is None
response = pb_utils.InferenceResponse([tensor], pb_utils.TritonError("no"))
assert response.has_error() and response.error().code() == pb_utils.TritonError.INTERNAL
assert pb_utils.Tensor.from_dlpack("X", tensor.to_dlpack()).as_numpy().tolist() == [0, 1, 2]
pb_utils.Logger.log_info("said")
pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU)
metric = pb_utils.MetricFamily("n", "d", pb_utils.MetricFamily.GAUGE).Metric({"a": "b"})
metric.set(3)
metric.increment(-1)
assert metric.value() == 2
for ask in (request.exec, lambda: pb_utils.is_model_ready("m"), lambda: request.set_release_flags(9)):
    try:
        ask()
    except pb_utils.TritonModelException as error:
        print(error)
    else:
        raise AssertionError("done without a server")
"""


def test_the_module_without_a_server():
    environment = {**os.environ, "PYTHONPATH": WORKER_DIR, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([PYTHON, "-c", ALONE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "INFO: said" in done.stdout and "WARNING: GPU memory is preferred" in done.stdout
