"""DLPack capsules over the memory of GPUs, which numpy can neither read nor make."""

import ctypes

import numpy as np

from nereid_worker import device
from nereid_worker.datatypes import BF16, NUMPY_OF, number_of
from nereid_worker.dlpack import NotContiguous
from nereid_worker.errors import TritonModelException

_FRESH, _USED = b"dltensor", b"used_dltensor"

# `DLDataTypeCode`, and numpy's letter for it.
_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}
_CODES = {kind: code for code, kind in _KINDS.items()}
_BFLOAT = 4


class _Managed(ctypes.Structure):
    """A `DLManagedTensor`."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32),
        ("device_number", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_api = ctypes.pythonapi
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)
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
    if _is_named(capsule, _FRESH):
        _made.pop(_last_pointer_of(capsule, _FRESH), None)


for _function in (_delete, _destroy):
    # Called by others, as long as there is a process.
    _api.Py_IncRef(ctypes.py_object(_function))


def take(capsule):
    """The memory, the datatype's number and the shape of a capsule, which is used up."""
    managed = _Managed.from_address(_pointer_of(capsule, _FRESH))
    number = _number_of(managed)
    shape = tuple(managed.shape[: managed.ndim])
    if managed.strides and not _is_contiguous(shape, managed.strides[: managed.ndim]):
        raise NotContiguous
    size = managed.bits // 8
    for dim in shape:
        size *= dim
    _rename(capsule, _USED)
    address = ctypes.addressof(managed)
    delete = _DELETER(managed.deleter) if managed.deleter else None
    memory = device.DeviceMemory(
        managed.device_number, (managed.data or 0) + managed.byte_offset, size
    )
    if delete is not None:
        memory.when_dropped(delete, address)
    return memory, number, shape


def make(memory, number, shape):
    """A capsule over memory of a GPU."""
    dims = (ctypes.c_int64 * len(shape))(*shape)
    kind = "u2" if number == BF16 else NUMPY_OF[number]
    managed = _Managed(
        data=memory.address,
        device=device.CUDA,
        device_number=memory.device,
        ndim=len(shape),
        code=_BFLOAT if number == BF16 else _CODES[np.dtype(kind).kind],
        bits=8 * np.dtype(kind).itemsize,
        lanes=1,
        shape=dims,
        deleter=ctypes.cast(_delete, ctypes.c_void_p),
    )
    address = ctypes.addressof(managed)
    _made[address] = (managed, dims, memory)
    return _new(address, _FRESH, ctypes.cast(_destroy, ctypes.c_void_p))


def _number_of(managed):
    if managed.code == _BFLOAT and managed.bits == 16 and managed.lanes == 1:
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
