"""DLPack capsules over the memory of GPUs, which numpy can neither read nor make."""

import ctypes

import numpy as np

from nereid_worker import device, dlpack
from nereid_worker.datatypes import BF16, NUMPY_OF, number_of
from nereid_worker.errors import TritonModelException

_USED = b"used_dltensor"

# Numpy's letters for what it knows.
_KINDS = {dlpack.INT: "i", dlpack.UINT: "u", dlpack.FLOAT: "f", dlpack.BOOL: "b"}
_CODES = {kind: code for code, kind in _KINDS.items()}

_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_api = ctypes.pythonapi
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", _api)
)
_new = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)(("PyCapsule_New", _api))
# The same of a capsule that is being destroyed, of which there must be no new reference.
_is_named = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _api)
)
_last_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)

# What capsules that we have made refer to, by the address of their `DLManagedTensor`.
_made = {}


@_DELETER
def _delete(address):
    """Whoever took a capsule needs it no more."""
    _made.pop(address, None)


@_DELETER
def _destroy(capsule):
    """A capsule goes: with its tensor, if nobody has taken that."""
    if _is_named(capsule, dlpack.FRESH):
        _made.pop(_last_pointer_of(capsule, dlpack.FRESH), None)


for _function in (_delete, _destroy):
    # Called by others, as long as there is a process.
    _api.Py_IncRef(ctypes.py_object(_function))


def take(capsule):
    """The memory, the datatype's number and the shape of a capsule, which is used up."""
    managed = dlpack.managed(capsule)
    number = _number_of(managed)
    shape = tuple(managed.shape[: managed.ndim])
    if managed.strides and not _is_contiguous(shape, managed.strides[: managed.ndim]):
        raise dlpack.NotContiguous
    size = managed.bits // 8
    for dim in shape:
        size *= dim
    _rename(capsule, _USED)
    address = (managed.data or 0) + managed.byte_offset
    memory = device.DeviceMemory(managed.device_number, address, size)
    if managed.deleter:
        memory.when_dropped(_DELETER(managed.deleter), ctypes.addressof(managed))
    return memory, number, shape


def make(memory, number, shape):
    """A capsule over memory of a GPU."""
    dims = (ctypes.c_int64 * len(shape))(*shape)
    kind = "u2" if number == BF16 else NUMPY_OF[number]
    managed = dlpack.Managed(
        data=memory.address,
        device=device.CUDA,
        device_number=memory.device,
        ndim=len(shape),
        code=dlpack.BFLOAT if number == BF16 else _CODES[np.dtype(kind).kind],
        bits=8 * np.dtype(kind).itemsize,
        lanes=1,
        shape=dims,
        deleter=ctypes.cast(_delete, ctypes.c_void_p),
    )
    address = ctypes.addressof(managed)
    _made[address] = (managed, dims, memory)
    return _new(address, dlpack.FRESH, ctypes.cast(_destroy, ctypes.c_void_p))


def _number_of(managed):
    if managed.code == dlpack.BFLOAT and managed.bits == 16 and managed.lanes == 1:
        return BF16
    kind = _KINDS.get(managed.code)
    if kind is None or managed.bits % 8 or managed.lanes != 1:
        raise TritonModelException("DLPack dtype is not supported.")
    return number_of(np.dtype("%s%d" % (kind, managed.bits // 8)))


def _is_contiguous(shape, strides):
    expected = 1
    for dim, stride in zip(reversed(shape), reversed(strides)):
        if dim == 0:
            return True
        if dim != 1 and stride != expected:
            return False
        expected *= dim
    return True
