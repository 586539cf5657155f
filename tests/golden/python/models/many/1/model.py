"""As many responses as its input says; a negative number ends them with an error."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "IN")
            count = int(tensor.as_numpy()[0])
            sender = request.get_response_sender()
            for _ in range(abs(count)):
                sender.send(
                    pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
                )
            if count < 0:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("negative")))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
