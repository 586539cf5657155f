"""Asks identity_py three times, one after another: what a pipeline in Python costs."""

import triton_python_backend_utils as pb_utils

STEPS = 3


def step(tensor):
    """The request of one step."""
    return pb_utils.InferenceRequest(
        model_name="identity_py",
        requested_output_names=["OUT"],
        inputs=[pb_utils.Tensor.from_dlpack("IN", tensor.to_dlpack())],
    )


class TritonPythonModel:
    def execute(self, requests):
        return [self.run(request) for request in requests]

    def run(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "IN")
        for _ in range(STEPS):
            response = step(tensor).exec()
            if response.has_error():
                return pb_utils.InferenceResponse(error=response.error())
            tensor = pb_utils.get_output_tensor_by_name(response, "OUT")
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
