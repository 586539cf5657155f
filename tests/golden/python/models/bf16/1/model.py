"""Passes BF16 through DLPack, and tells what numpy makes of it."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "IN")
        try:
            said = str(tensor.as_numpy())
        except Exception as error:
            said = "%s: %s" % (type(error).__name__, error)
        text = pb_utils.Tensor("TEXT", np.array([said], np.object_))
        again = pb_utils.Tensor.from_dlpack("OUT", tensor.to_dlpack())
        return pb_utils.InferenceResponse([again, text])
