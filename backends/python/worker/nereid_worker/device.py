"""Tensors of other devices than the CPU.

Tensors between the server and its workers lie in the CPU's memory: what lies in a GPU's is copied
there with the framework that it belongs to, and a warning says so.
"""

import sys
from typing import Any

from nereid_worker import dlpack
from nereid_worker.errors import TritonModelException

# The CPU's memory, and such of CUDA and ROCm as the CPU can read: pinned and managed.
_READABLE = (dlpack.CPU, 3, 11, 13)

_warned = set()


def on_cpu(tensor: Any) -> Any:
    """What has `__dlpack__`, or is a capsule: itself, or its copy in the CPU's memory."""
    where = _device_of(tensor)
    if where[0] in _READABLE:
        return tensor
    _warn(where)
    if dlpack.is_capsule(tensor):
        tensor = _adopt(tensor)
    for method in ("cpu", "get"):  # torch, cupy
        if hasattr(tensor, method):
            return getattr(tensor, method)()
    raise TritonModelException(
        "a tensor of DLPack device %s cannot be copied into the CPU's memory: %s has neither "
        "cpu() nor get()" % (where, type(tensor).__name__)
    )


def _device_of(tensor):
    if dlpack.is_capsule(tensor):
        return dlpack.device_of(tensor)
    of_tensor = getattr(tensor, "__dlpack_device__", None)
    return (dlpack.CPU, 0) if of_tensor is None else tuple(int(part) for part in of_tensor())


def _adopt(capsule):
    """The tensor of a capsule, in whichever framework the model has loaded."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None:
        return torch.utils.dlpack.from_dlpack(capsule)
    if cupy is not None:
        return cupy.fromDlpack(capsule)
    raise TritonModelException(
        "a DLPack capsule over memory of device %s needs torch or cupy to be read"
        % (dlpack.device_of(capsule),)
    )


def _warn(where):
    """Says once for each device that its tensors are copied."""
    if where in _warned:
        return
    _warned.add(where)
    from triton_python_backend_utils import Logger

    Logger.log_warn("tensors of DLPack device %s are copied into the CPU's memory" % (where,))
