"""Runs a TorchScript file in a Python worker, by the rules of Nereid's PyTorch backend.

Used where the server cannot compile its shim against libtorch. `src/mapping.rs` has the same rules
for names; where the two differ, that file is right.
"""

import json
import os

import numpy as np
import torch
import triton_python_backend_utils as pb_utils


def index_of(name):
    """The number behind the first `__`; None where there is none."""
    _, found, digits = name.partition("__")
    if not found or not (digits == "" or digits.isdecimal()):
        return None
    return int(digits or 0)


def input_positions(names, arguments):
    if all(name in arguments for name in names):
        return [arguments.index(name) for name in names]
    indices = [index_of(name) for name in names]
    return list(range(len(names))) if None in indices else indices


def output_positions(names):
    indices = [index_of(name) for name in names]
    return list(range(len(names))) if None in indices else indices


def flag(config, key, default):
    value = config.get("parameters", {}).get(key, {}).get("string_value")
    return default if value is None else value.lower() in ("true", "1")


def to_argument(array):
    if array.dtype == np.object_:
        return [text.decode() if isinstance(text, bytes) else str(text) for text in array.ravel()]
    # A copy: the array is a read-only view of memory that belongs to the request.
    return torch.from_numpy(array.copy())


def to_array(value, name, datatype):
    """An output as the configuration wants it; a wrong type is an error, as in Triton."""
    expected = pb_utils.triton_string_to_numpy(datatype)
    if isinstance(value, str):
        value = [value]
    if isinstance(value, (list, tuple)):
        array = np.array([text.encode() for text in value], dtype=np.object_)
    else:
        array = value.detach().cpu().contiguous().numpy()
    if array.dtype != np.dtype(expected):
        raise pb_utils.TritonModelException(
            f"configuration expects datatype {datatype} for output '{name}', "
            f"model provides {array.dtype}"
        )
    return array


def elements_of(result):
    """A tuple or a list of tensors gives several outputs; all else is one."""
    if isinstance(result, tuple):
        return list(result)
    if isinstance(result, list) and result and isinstance(result[0], torch.Tensor):
        return result
    return [result]


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        folder = os.path.join(args["model_repository"], args["model_version"])
        path = os.path.join(folder, config.get("default_model_filename") or "model.pt")
        self.module = torch.jit.load(path, map_location="cpu")
        self.inference = flag(config, "INFERENCE_MODE", True)

        arguments = self.module.forward.schema.arguments[1:]
        self.dict_input = len(arguments) == 1 and str(arguments[0].type).startswith("Dict")
        if config.get("batch_input") or config.get("batch_output"):
            raise pb_utils.TritonModelException(
                "batch_input and batch_output need libtorch in the server's own process"
            )
        sequence = config.get("sequence_batching") or {}
        states = sequence.get("state") or []
        # What schedulers add to a request comes behind what it brings.
        added = [control["name"] for control in sequence.get("control_input") or []]
        added += [state["input_name"] for state in states]
        names = [tensor["name"] for tensor in config["input"]] + added
        self.inputs = list(dict.fromkeys(names))
        names = [argument.name for argument in arguments]
        self.positions = input_positions(self.inputs, names)
        self.outputs = [(tensor["name"], tensor["data_type"]) for tensor in config["output"]]
        public = {name for name, _ in self.outputs}
        for state in states:
            if state["output_name"] not in public:
                self.outputs.append((state["output_name"], state["data_type"]))
        self.indices = output_positions([name for name, _ in self.outputs])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        try:
            elements = elements_of(self.run(request))
            return pb_utils.InferenceResponse(self.name_outputs(elements))
        except Exception as error:  # the model's own: it belongs to this request only
            return pb_utils.InferenceResponse(
                output_tensors=[], error=pb_utils.TritonError(f"PyTorch execute failure: {error}")
            )

    def run(self, request):
        found = {}
        for name, position in zip(self.inputs, self.positions):
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                found[name if self.dict_input else position] = to_argument(tensor.as_numpy())
        with torch.inference_mode(self.inference), torch.no_grad():
            if self.dict_input:
                return self.module(found)
            return self.module(*(found.get(i) for i in range(max(found, default=-1) + 1)))

    def name_outputs(self, elements):
        tensors = []
        for (name, datatype), index in zip(self.outputs, self.indices):
            if index >= len(elements):
                raise pb_utils.TritonModelException(
                    f"The output {name} in the model configuration refers to an output index "
                    f"which doesn't exist. This model has {len(elements)} outputs"
                )
            tensors.append(pb_utils.Tensor(name, to_array(elements[index], name, datatype)))
        return tensors
