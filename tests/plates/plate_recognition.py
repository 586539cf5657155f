"""Drives the other three models: the article's `plate_recognition`, with its early stop."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from torch.utils.dlpack import from_dlpack

ALPHABET = "0123456789ABEKMHOPCTYX-"
BLANK = len(ALPHABET) - 1


def decode(logits):
    """Text and score of one plate from its logits [23, 18]."""
    best = logits.argmax(axis=0)
    score = -float(logits.max(axis=0).sum())
    changes = [c for i, c in enumerate(best) if i == 0 or c != best[i - 1]]
    text = "".join(ALPHABET[c] for c in changes if c != BLANK)
    return (text if score < -85 and len(text) in (8, 9) else ""), score


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        output = pb_utils.get_output_config_by_name(config, "coordinates")
        self.dtype = pb_utils.triton_string_to_numpy(output["data_type"])

    def execute(self, requests):
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "input__0")
            crops, coordinates = self.predict(
                "yolo", image, "input__0", ["output__0", "output__1"]
            )
            if from_dlpack(coordinates.to_dlpack()).shape[0] == 0:
                texts = np.array([], dtype=np.object_)
            else:
                (features,) = self.predict("stn", crops, "input__0", ["output__0"])
                (logits,) = self.predict("lprnet", features, "input__0", ["output__0"])
                plates = from_dlpack(logits.to_dlpack()).numpy()
                texts = np.array([decode(plate)[0] for plate in plates], dtype=np.object_)
            boxes = coordinates.as_numpy().astype(self.dtype).reshape(-1, 4)
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[
                        pb_utils.Tensor("coordinates", boxes),
                        pb_utils.Tensor("texts", texts),
                    ]
                )
            )
        return responses

    @staticmethod
    def predict(model_name, tensor, input_name, output_names):
        response = pb_utils.InferenceRequest(
            model_name=model_name,
            requested_output_names=output_names,
            inputs=[pb_utils.Tensor.from_dlpack(input_name, tensor.to_dlpack())],
        ).exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return [pb_utils.get_output_tensor_by_name(response, name) for name in output_names]
