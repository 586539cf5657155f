"""Ragged inputs of an ONNX model: one row of all elements, with tensors that describe the batch."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_models
import onnxruntime
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model

CONFIG = """
    backend: "onnxruntime"
    max_batch_size: 8
    input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]
    output [
      { name: "doubled" data_type: TYPE_FP32 dims: [ -1 ] },
      { name: "count" data_type: TYPE_FP32 dims: [ 1 ] }
    ]
    batch_input [ {
      kind: BATCH_ELEMENT_COUNT target_name: "counts" data_type: TYPE_FP32 source_input: "x"
    } ]
    batch_output [ {
      kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "doubled" source_input: "x"
    } ]
    dynamic_batching { }
    optimization { eager_batching: true }
"""

ENGINES = {"onnxruntime": "library=" + os.path.dirname(onnxruntime.__file__), "rten": "engine=rten"}


@pytest.mark.parametrize("engine", ENGINES)
def test_requests_of_several_lengths_run_together(tmp_path, monkeypatch, engine):
    onnx_models.write(tmp_path, "ragged")
    write_model(tmp_path, "ragged", CONFIG)
    monkeypatch.setenv("TRITONSERVER_DELAY_SCHEDULER", "3")
    with Server(tmp_path, "--backend-config=onnxruntime," + ENGINES[engine]) as server:

        def ask(length):
            tensor = httpclient.InferInput("x", [1, length], "FP32")
            tensor.set_data_from_numpy(np.full((1, length), length, np.float32))
            result = httpclient.InferenceServerClient(server.url).infer("ragged", [tensor])
            return result.as_numpy("doubled").tolist(), result.as_numpy("count").tolist()

        with ThreadPoolExecutor(3) as threads:
            answers = list(threads.map(ask, (1, 3, 2)))
        answers.append(ask(4))
        server.wait_for_batches("ragged", [1, 3])
    assert answers == [([[2.0 * n] * n], [[float(n)]]) for n in (1, 3, 2, 4)]
