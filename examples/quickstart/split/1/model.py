"""Splits a line of text into words."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            (line,) = pb_utils.get_input_tensor_by_name(request, "LINE").as_numpy()
            words = np.array(line.decode().split(), dtype=np.object_)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("WORDS", words)]))
        return responses
