"""Tensors of other devices than the CPU.

Tensors between the server and its workers lie in the CPU's memory: what lies in a GPU's is copied
there with the framework that it belongs to, and a warning says so.
"""

from typing import Any

from nereid_worker.dlpack import CPU

_warned = set()


def on_cpu(tensor: Any) -> Any:
    """The tensor itself, or its copy in the CPU's memory."""
    of_device = getattr(tensor, "__dlpack_device__", None)
    where = (CPU, 0) if of_device is None else tuple(int(part) for part in of_device())
    if where[0] == CPU:
        return tensor
    _warn(where)
    for method in ("cpu", "get"):  # torch, cupy
        if hasattr(tensor, method):
            return getattr(tensor, method)()
    return tensor


def _warn(where):
    """Says once for each device that its tensors are copied."""
    if where in _warned:
        return
    _warned.add(where)
    from triton_python_backend_utils import Logger

    Logger.log_warn("tensors of DLPack device %s are copied into the CPU's memory" % (where,))
