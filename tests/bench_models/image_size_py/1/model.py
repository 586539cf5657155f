"""Returns the shape of a picture: what a large input costs by itself."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            picture = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            shape = np.array(picture.shape, np.int64)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", shape)]))
        return answers
