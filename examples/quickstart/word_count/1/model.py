"""Counts the words of each line by asking another model (business logic scripting)."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        lines = pb_utils.get_input_tensor_by_name(request, "LINES").as_numpy()
        counts = [self.count(line) for line in lines]
        return pb_utils.InferenceResponse([pb_utils.Tensor("COUNTS", np.array(counts, np.int64))])

    @staticmethod
    def count(line):
        response = pb_utils.InferenceRequest(
            model_name="split",
            requested_output_names=["WORDS"],
            inputs=[pb_utils.Tensor("LINE", np.array([line], dtype=np.object_))],
        ).exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return len(pb_utils.get_output_tensor_by_name(response, "WORDS").as_numpy())
