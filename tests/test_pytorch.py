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
