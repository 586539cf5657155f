"""The article's pipeline: business logic scripting over `yolo`, `stn` and `lprnet`.

Tensors go from model to model by DLPack, without being copied.
"""

import numpy as np
import triton_python_backend_utils as pb_utils
from texts import read

ARTICLE_SIZE = (1920, 1080)


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        picture = pb_utils.get_input_tensor_by_name(request, "input__0")
        wanted = request.requested_output_names()
        asked = ["output__0", "output__1"] + ["output__2"] * ("confidences" in wanted)
        crops, boxes, *confidences = predict("yolo", picture, asked)
        readings = []
        # Nothing found: nothing to straighten, nothing to read.
        if boxes.shape()[0] > 0:
            (plates,) = predict("stn", crops, ["output__0"])
            (logits,) = predict("lprnet", plates, ["output__0"])
            readings = [read(plate) for plate in logits.as_numpy()]
        outputs = {
            "coordinates": lambda: coordinates(boxes.as_numpy(), picture.shape()),
            "texts": lambda: np.array([text for text, _ in readings], np.object_),
            "boxes": lambda: boxes.as_numpy(),
            "confidences": lambda: confidences[0].as_numpy(),
            "text_confidences": lambda: np.array([sure for _, sure in readings], np.float32),
        }
        tensors = [
            pb_utils.Tensor(name, make()) for name, make in outputs.items() if name in wanted
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def coordinates(boxes, shape):
    """Corners on the picture resized to 1920x1080, as the article gives them."""
    across, down = ARTICLE_SIZE[0] / shape[1], ARTICLE_SIZE[1] / shape[0]
    return (boxes * [across, down, across, down]).astype(np.float32)


def predict(model, tensor, output_names):
    response = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=output_names,
        inputs=[pb_utils.Tensor.from_dlpack("input__0", tensor.to_dlpack())],
    ).exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    return [pb_utils.get_output_tensor_by_name(response, name) for name in output_names]
