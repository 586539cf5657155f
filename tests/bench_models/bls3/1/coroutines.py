"""As `model.py`, in coroutines: several executions go on in one thread."""

import triton_python_backend_utils as pb_utils
from model import STEPS, step


class TritonPythonModel:
    async def execute(self, requests):
        return [await self.run(request) for request in requests]

    async def run(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "IN")
        for _ in range(STEPS):
            response = await step(tensor).async_exec()
            if response.has_error():
                return pb_utils.InferenceResponse(error=response.error())
            tensor = pb_utils.get_output_tensor_by_name(response, "OUT")
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
