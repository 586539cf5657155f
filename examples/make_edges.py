"""Makes the ONNX model of the quickstart: how strongly a grey picture changes at each point.

    pip install onnx && python examples/make_edges.py
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

SOBEL = np.float32([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
# The defaults are written out: not every engine knows them.
CONV = {"pads": [1, 1, 1, 1], "strides": [1, 1], "dilations": [1, 1]}


def graph():
    kernels = np.stack([SOBEL, SOBEL.T])[:, None]
    nodes = [
        helper.make_node("Cast", ["IMAGE"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["grey", "front"], ["picture"]),
        helper.make_node("Conv", ["picture", "kernels"], ["changes"], **CONV),
        helper.make_node("Mul", ["changes", "changes"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "front"], ["sum"], keepdims=0),
        helper.make_node("Sqrt", ["sum"], ["EDGES"]),
    ]
    return helper.make_graph(
        nodes,
        "edges",
        [helper.make_tensor_value_info("IMAGE", TensorProto.UINT8, ["height", "width"])],
        [helper.make_tensor_value_info("EDGES", TensorProto.FLOAT, ["height", "width"])],
        [
            numpy_helper.from_array(kernels, "kernels"),
            numpy_helper.from_array(np.int64([0, 1]), "front"),
        ],
    )


if __name__ == "__main__":
    target = Path(__file__).with_name("quickstart") / "edges/1/model.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph(), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, target)
    print("%d bytes in %s" % (target.stat().st_size, target))
