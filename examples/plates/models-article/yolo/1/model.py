"""Finds plates and cuts them out, with PyTorch: the article's model `yolo`."""

import os

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from boxes import crops, keep_best, views


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "detector.pt")
        self.net = torch.jit.load(path, map_location="cpu").eval()
        # The server runs several models at once; one thread each.
        torch.set_num_threads(1)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    @torch.no_grad()
    def answer(self, request):
        picture = pb_utils.get_input_tensor_by_name(request, "input__0").as_numpy()
        if not picture.size:
            height, width = picture.shape[:2]
            error = pb_utils.TritonError("the picture has no pixels: %dx%d" % (width, height))
            return pb_utils.InferenceResponse(error=error)
        found = [
            (self.net(torch.from_numpy(pixels))[0].numpy(), scale)
            for pixels, scale in views(picture)
        ]
        boxes, confidences = keep_best(found, picture)
        outputs = {
            "output__0": lambda: crops(picture, boxes),
            "output__1": lambda: boxes,
            "output__2": lambda: np.ascontiguousarray(confidences),
        }
        wanted = request.requested_output_names()
        tensors = [
            pb_utils.Tensor(name, make()) for name, make in outputs.items() if name in wanted
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)
