"""Answers with what it can see of its request."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        seen = {
            "request_id": request.request_id(),
            "correlation_id": request.correlation_id(),
            "flags": request.flags(),
            "timeout": request.timeout(),
            "parameters": json.loads(request.parameters()),
            "requested_output_names": sorted(request.requested_output_names()),
            "is_cancelled": request.is_cancelled(),
            "args": {key: type(value).__name__ for key, value in self.args.items()},
            "kind": self.args["model_instance_kind"],
            "device": self.args["model_instance_device_id"],
            "inputs": [
                [t.name(), t.is_cpu(), str(t.as_numpy().dtype), t.as_numpy().shape]
                for t in request.inputs()
            ],
        }
        text = np.array([json.dumps(seen, sort_keys=True)], np.object_)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("OUT", text), pb_utils.Tensor("MORE", text)]
        )
