"""Finds number plates and cuts them out: the article's model `yolo`, around a YOLOv5-style ONNX net."""

import os

import cv2
import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

SIDE = 320
CONFIDENCE = 0.4
OVERLAP = 0.5


def find(session, image):
    """Boxes (xmin, ymin, xmax, ymax) in pixels of `image` (RGB), best first."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    fitted = cv2.resize(image, (round(width * scale), round(height * scale)))
    square = np.full((SIDE, SIDE, 3), 114, np.uint8)
    square[: fitted.shape[0], : fitted.shape[1]] = fitted
    blob = square.astype(np.float32).transpose(2, 0, 1)[None] / 255
    (found,) = session.run(None, {session.get_inputs()[0].name: blob})
    found = found[0]
    scores = found[:, 4] * found[:, 13:].max(axis=1)
    found, scores = found[scores > CONFIDENCE], scores[scores > CONFIDENCE]
    corner = found[:, :2] - found[:, 2:4] / 2
    boxes = np.concatenate([corner, corner + found[:, 2:4]], axis=1) / scale
    kept = []
    for index in np.argsort(-scores):
        if all(overlap(boxes[index], boxes[other]) < OVERLAP for other in kept):
            kept.append(index)
    return boxes[kept].astype(np.float32).reshape(-1, 4)


def overlap(a, b):
    """Intersection over union."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    common = sides.prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def crop(image, box):
    """One plate, as the recognition nets want it."""
    xmin, ymin, xmax, ymax = box
    margin = 0.2 * (ymax - ymin)
    rows = slice(max(int(ymin - margin), 0), int(ymax + margin))
    plate = image[rows, max(int(xmin), 0) : int(xmax)]
    plate = cv2.resize(plate, (94, 24), interpolation=cv2.INTER_CUBIC)
    return (plate.astype(np.float32).transpose(2, 0, 1) - 127.5) * 0.0078125


def prepare(image):
    """The picture that boxes refer to: 1920x1080, RGB."""
    resized = cv2.resize(image, (1920, 1080), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "detector.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        responses = []
        for request in requests:
            image = prepare(pb_utils.get_input_tensor_by_name(request, "input__0").as_numpy())
            boxes = find(self.session, image)
            # With no plate this has the shape [0], as the article's model returns it.
            crops = np.array([crop(image, box) for box in boxes], dtype=np.float32)
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[
                        pb_utils.Tensor("output__0", crops),
                        pb_utils.Tensor("output__1", boxes),
                    ]
                )
            )
        return responses
