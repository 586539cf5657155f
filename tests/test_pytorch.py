"""TorchScript models through the server."""

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model

torch = pytest.importorskip("torch")


class Pair(torch.nn.Module):
    def forward(self, x, y):
        return x + y, x - y


CONFIG = """
    backend: "pytorch"
    max_batch_size: 4
    input [
      { name: "x" data_type: TYPE_FP32 dims: [ 2 ] },
      { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
    ]
    output [
      { name: "difference__1" data_type: TYPE_FP32 dims: [ 2 ] },
      { name: "sum__0" data_type: TYPE_FP32 dims: [ 2 ] }
    ]
"""

FALLBACK = [
    "--backend-config=pytorch,libtorch=/nonexistent",
    "--backend-config=pytorch,python=/usr/bin/python3",
]


@pytest.mark.parametrize("flags", [[], FALLBACK], ids=["libtorch", "worker"])
def test_a_module_answers_in_the_process_and_in_a_worker(tmp_path, flags):
    saved = tmp_path / "pair.pt"
    torch.jit.script(Pair()).save(str(saved))
    repository = tmp_path / "models"
    write_model(repository, "pair", CONFIG, {"model.pt": saved.read_bytes()})
    with Server(repository, *flags) as server:
        assert ("'pair' runs in a Python process" in server.log()) == bool(flags)
        client = httpclient.InferenceServerClient(server.url)
        sent = []
        for name, values in (("x", [[5, 1], [2, 2]]), ("y", [[2, 3], [1, 0]])):
            sent.append(httpclient.InferInput(name, [2, 2], "FP32"))
            sent[-1].set_data_from_numpy(np.float32(values))
        result = client.infer("pair", sent)
        np.testing.assert_array_equal(result.as_numpy("sum__0"), [[7, 4], [3, 2]])
        np.testing.assert_array_equal(result.as_numpy("difference__1"), [[3, -2], [1, 2]])
        client.close()


class Accumulate(torch.nn.Module):
    def forward(self, IN, START, READY, BEFORE):
        total = BEFORE * (1 - START) + IN * READY
        return total, total + 0


SEQUENCES = """
    backend: "pytorch"
    max_batch_size: 4
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
    sequence_batching {
      control_input [
        { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
        { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] }
      ]
      state [ {
        input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_FP32 dims: [ 1 ]
      } ]
    }
"""


@pytest.mark.parametrize("flags", [[], FALLBACK], ids=["libtorch", "worker"])
def test_states_of_sequences_are_kept(tmp_path, flags):
    saved = tmp_path / "accumulate.pt"
    torch.jit.script(Accumulate()).save(str(saved))
    repository = tmp_path / "models"
    write_model(repository, "accumulate", SEQUENCES, {"model.pt": saved.read_bytes()})
    with Server(repository, *flags) as server:
        client = httpclient.InferenceServerClient(server.url)
        answers = []
        for value, sequence, start, end in [
            (1, 7, True, False), (10, 8, True, False), (2, 7, False, False),
            (20, 8, False, True), (3, 7, False, True),
        ]:
            tensor = httpclient.InferInput("IN", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.float32([[value]]))
            options = dict(sequence_id=sequence, sequence_start=start, sequence_end=end)
            result = client.infer("accumulate", [tensor], **options)
            assert [output["name"] for output in result.get_response()["outputs"]] == ["OUT"]
            answers.append(result.as_numpy("OUT").item())
        client.close()
    assert answers == [1, 10, 3, 30, 6]
