"""The pipeline: finds plates, straightens and reads them. Stops early where there are none."""

import numpy as np
import triton_python_backend_utils as pb_utils
from boxes import article_coordinates, crops, keep_best, views
from texts import read


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        picture = pb_utils.get_input_tensor_by_name(request, "input__0").as_numpy()
        if not picture.size:
            height, width = picture.shape[:2]
            error = pb_utils.TritonError("the picture has no pixels: %dx%d" % (width, height))
            return pb_utils.InferenceResponse(error=error)
        found = [
            (ask("detector", "pictures", pixels, "boxes")[0], scale)
            for pixels, scale in views(picture)
        ]
        boxes, confidences = keep_best(found, picture)
        readings = []
        if len(boxes):
            logits = ask("reading", "crops", crops(picture, boxes), "logits")
            readings = [read(plate) for plate in logits]
        outputs = {
            "coordinates": lambda: article_coordinates(boxes, picture),
            "texts": lambda: np.array([text for text, _ in readings], np.object_),
            "boxes": lambda: boxes,
            "confidences": lambda: confidences,
            "text_confidences": lambda: np.array([sure for _, sure in readings], np.float32),
        }
        wanted = request.requested_output_names()
        tensors = [
            pb_utils.Tensor(name, make()) for name, make in outputs.items() if name in wanted
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def ask(model, input_name, array, output_name):
    """Runs another model of the repository."""
    response = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=[output_name],
        inputs=[pb_utils.Tensor(input_name, array)],
    ).exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    return pb_utils.get_output_tensor_by_name(response, output_name).as_numpy()
