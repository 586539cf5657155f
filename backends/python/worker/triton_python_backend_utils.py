"""The module that models written for Triton's Python backend import.

It can be imported without a server too, for unit tests of a model: everything but calls to other
models works there.
"""

import json
from typing import Any, Dict, Optional, Sequence, Type, Union

import numpy as np

from nereid_worker import cuda as _cuda, current as _current, importing as _importing
from nereid_worker.datatypes import (
    NUMPY_OF as _NUMPY_OF,
    NAME_OF as _NAME_OF,
    NUMBER_OF as _NUMBER_OF,
    STRING as _STRING,
    pack_strings as _pack_strings,
    unpack_strings as _unpack_strings,
)
from nereid_worker.errors import TritonError, TritonModelException
from nereid_worker.sender import InferenceResponseSender
from nereid_worker.messages import InferenceRequest, InferenceResponse, InferenceTrace
from nereid_worker.metrics import Metric, MetricFamily
from nereid_worker.model_config import ModelConfig
from nereid_worker.tensor import Tensor
from nereid_worker.texts import text as _text

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_CPU = 0
TRITONSERVER_MEMORY_CPU_PINNED = 1
TRITONSERVER_MEMORY_GPU = 2

TRITON_STRING_TO_NUMPY: Dict[str, Type[Any]] = {
    _NAME_OF[number]: kind.type for number, kind in _NUMPY_OF.items()
}


class PreferredMemory:
    """Where the answer to a request of the model's own should lie. Without one of NVIDIA's GPUs it
    lies in the CPU's memory, whatever is asked for."""

    _warned = False

    def __init__(self, preferred_memory_type: int, preferred_device_id: int = 0):
        if preferred_memory_type not in range(3):
            raise TypeError("unknown type of memory: %r" % (preferred_memory_type,))
        wants_gpu = preferred_memory_type == TRITONSERVER_MEMORY_GPU
        if wants_gpu and not PreferredMemory._warned and _cuda.driver() is None:
            PreferredMemory._warned = True
            Logger.log_warn("GPU memory is preferred, but responses lie in the CPU's memory")
        self.preferred_memory_type = preferred_memory_type
        self.preferred_device_id = preferred_device_id


class Logger:
    """Writes to the server's log under the model's name."""

    class LogLevel:
        """The levels; `Logger` has them too."""

        INFO, WARNING, ERROR, VERBOSE = "INFO", "WARNING", "ERROR", "VERBOSE"

    INFO, WARNING = LogLevel.INFO, LogLevel.WARNING
    ERROR, VERBOSE = LogLevel.ERROR, LogLevel.VERBOSE

    @staticmethod
    def log(message: str, level: str = LogLevel.INFO) -> None:
        """Logs a message at `Logger.INFO`, `WARNING`, `ERROR` or `VERBOSE`."""
        if level not in (Logger.INFO, Logger.WARNING, Logger.ERROR, Logger.VERBOSE):
            raise TypeError("unknown level: %r" % (level,))
        said = _text(message, "message") if isinstance(message, bytes) else str(message)
        if _current.worker is None:
            print("%s: %s" % (level, said))
        else:
            _current.worker.log(level, said)

    @staticmethod
    def log_info(message: str) -> None:
        """Logs what is worth knowing."""
        Logger.log(message, Logger.INFO)

    @staticmethod
    def log_warn(message: str) -> None:
        """Logs what looks wrong."""
        Logger.log(message, Logger.WARNING)

    @staticmethod
    def log_error(message: str) -> None:
        """Logs what is wrong."""
        Logger.log(message, Logger.ERROR)

    @staticmethod
    def log_verbose(message: str) -> None:
        """Logs what only matters when looking for something."""
        Logger.log(message, Logger.VERBOSE)


def get_model_dir() -> str:
    """The folder of the version that is being served, where its `model.py` lies."""
    if _importing.version_dir is None:
        raise TritonModelException("a model has a folder only with a server: none is here")
    return _importing.version_dir


def load_model(
    model_name: str, config: str = "", files: Optional[Dict[str, bytes]] = None
) -> None:
    """Loads a model, or loads it anew, and waits until it serves. The server must run with
    `--model-control-mode=explicit`.

    `config` is JSON that takes the place of the model's configuration; `files` are paths in the
    model's folder (`"file:1/model.onnx"`) and what they hold.
    """
    tensors = [
        Tensor(path, np.frombuffer(content, np.uint8)) for path, content in (files or {}).items()
    ]
    name = _text(model_name, "model_name")
    _ask({"do": "load_model", "model_name": name, "config": config}, tensors)


def unload_model(model_name: str, unload_dependents: bool = False) -> None:
    """Takes a model out, if `unload_dependents` is set with the models that only it needs."""
    asked = {"do": "unload_model", "model_name": _text(model_name, "model_name")}
    _ask({**asked, "unload_dependents": bool(unload_dependents)})


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Whether a model, or a version of it, answers requests."""
    name = _text(model_name, "model_name")
    asked = {"do": "is_model_ready", "model_name": name, "model_version": str(model_version)}
    return _ask(asked)["ready"]


def _ask(asked: Dict[str, Any], tensors: Sequence[Tensor] = ()) -> Dict[str, Any]:
    if _current.worker is None:
        raise TritonModelException("models can only be looked after with a server: none is here")
    if _current.worker.finalizing:
        raise TritonModelException("models cannot be looked after in the 'finalize' function")
    return _current.worker.calls.ask(asked, tensors)


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Optional[Tensor]:
    """The input of a request with this name, or None."""
    for tensor in request._inputs:
        if tensor._name == name:
            return tensor
    return None


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Optional[Tensor]:
    """The output of a response with this name, or None."""
    for tensor in response._outputs:
        if tensor._name == name:
            return tensor
    return None


def get_input_config_by_name(model_config: Union[dict, str], name: str) -> Optional[dict]:
    """The entry of `input` in a model's configuration with this name, or None."""
    return _entry(model_config, "input", name)


def get_output_config_by_name(model_config: Union[dict, str], name: str) -> Optional[dict]:
    """The entry of `output` in a model's configuration with this name, or None."""
    return _entry(model_config, "output", name)


def _entry(model_config: Union[dict, str], kind: str, name: str) -> Optional[dict]:
    config = json.loads(model_config) if isinstance(model_config, str) else model_config
    for entry in config.get(kind, []):
        if entry["name"] == name:
            return entry
    return None


def using_decoupled_model_transaction_policy(model_config: dict) -> bool:
    """Whether a configuration says `model_transaction_policy { decoupled: true }`."""
    return bool((model_config.get("model_transaction_policy") or {}).get("decoupled", False))


def triton_string_to_numpy(triton_type_string: str) -> Type[Any]:
    """numpy's type for a datatype as a configuration spells it, e.g. `TYPE_FP32`."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def triton_to_numpy_type(data_type: int) -> Optional[Type[Any]]:
    """numpy's type for the number of a datatype in the configuration's schema, or None."""
    kind = _NUMPY_OF.get(data_type)
    return None if kind is None else kind.type


def numpy_to_triton_type(data_type: Type[Any]) -> Optional[int]:
    """The number of a datatype in the configuration's schema for a numpy type, or None."""
    dtype = np.dtype(data_type)
    return _STRING if dtype.kind == "S" else _NUMBER_OF.get(dtype)


def serialize_byte_tensor(input_tensor: np.ndarray) -> Union[bytes, tuple, None]:
    """The bytes of a string tensor: every string behind its length (uint32, little-endian).

    An empty tensor is `()`, and None is what comes of an array that holds no strings.
    """
    if input_tensor.size == 0:
        return ()
    return _pack_strings(input_tensor) if input_tensor.dtype.kind in "OS" else None


def deserialize_bytes_tensor(encoded_tensor: bytes) -> np.ndarray:
    """The strings in the bytes of a string tensor, as a flat object array of `bytes`.

    Raises `struct.error` where the bytes end within a string.
    """
    return _unpack_strings(encoded_tensor)


# It needs all of the above, and gives the classes the names that they have in Triton.
import c_python_backend_utils as _classes  # noqa: E402, F401
