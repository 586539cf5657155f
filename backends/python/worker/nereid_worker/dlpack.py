"""Tensors out of DLPack capsules and into them.

numpy does the work. What it does not know (BF16, in older versions also booleans) is unsigned
numbers to it: the datatype that stands in a capsule is changed on the way in and on the way out.
"""

import ctypes
from typing import Any, Optional, Tuple

import numpy as np

from nereid_worker.datatypes import BF16, number_of

CPU = 1

# `DLDataTypeCode`.
INT, UINT, FLOAT, BFLOAT, BOOL = 0, 1, 2, 4, 6

# The name of a capsule that nobody has taken.
FRESH = b"dltensor"

_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]

_CAPSULE = type(np.empty(0).__dlpack__())


class Managed(ctypes.Structure):
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


class NotContiguous(Exception):
    """The memory of a tensor has gaps, or another order than C's."""


def capsule_of(array: np.ndarray, number: int) -> Any:
    """A capsule over an array, whose elements are of the datatype `number`."""
    is_bool = array.dtype == np.bool_
    if is_bool:
        array = array.view(np.uint8)
    if not array.flags.writeable:
        # A capsule cannot say that its memory must not be written to.
        array = array.copy()
    capsule = array.__dlpack__()
    if number == BF16:
        managed(capsule).code = BFLOAT
    elif is_bool:
        managed(capsule).code = BOOL
    return capsule


def array_of(tensor: Any) -> Tuple[np.ndarray, int]:
    """The array over a capsule or over anything with `__dlpack__`, and the number of its datatype:
    BF16 is an array of unsigned numbers."""
    if isinstance(tensor, np.ndarray):
        return _contiguous(tensor), number_of(tensor.dtype)
    if is_capsule(tensor):
        return _from_capsule(tensor)
    try:
        capsule = exported(tensor)
    except (BufferError, RuntimeError, TypeError):
        if not hasattr(tensor, "numpy"):  # Older versions of torch do not export booleans.
            raise
        return array_of(tensor.numpy())
    return _from_capsule(capsule)


def exported(tensor: Any) -> Any:
    """The capsule that anything with `__dlpack__` gives."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach()  # torch refuses to export what requires gradients.
    return tensor.__dlpack__()


def array_of_plain(tensor: Any) -> Optional[Tuple[np.ndarray, int]]:
    """As `array_of`, of a capsule that numpy takes as it is, as most are; None of anything else."""
    if type(tensor) is not _CAPSULE:
        return None
    try:
        array = _contiguous(np.from_dlpack(_Capsule(tensor)))
    except (BufferError, RuntimeError, TypeError, ValueError):
        return None
    return array, number_of(array.dtype)


def is_capsule(tensor: Any) -> bool:
    """Whether this is a capsule that nobody has taken yet."""
    return bool(_is_valid(tensor, FRESH))


def device_of(capsule: Any) -> Tuple[int, int]:
    """Type and number of the device that the memory of a capsule belongs to."""
    tensor = managed(capsule)
    return tensor.device, tensor.device_number


def _from_capsule(capsule):
    tensor = managed(capsule)
    code = tensor.code
    if code == BOOL or code == BFLOAT and tensor.bits == 16:
        tensor.code = UINT
    array = _contiguous(np.from_dlpack(_Capsule(capsule)))
    if code == BOOL:
        array = array.view(np.bool_)
    return array, BF16 if code == BFLOAT else number_of(array.dtype)


def managed(capsule: Any) -> Managed:
    """The tensor in a capsule that nobody has taken, to read and to write."""
    return Managed.from_address(_get_pointer(capsule, FRESH))


def _contiguous(array):
    if not array.flags.c_contiguous:
        raise NotContiguous
    return array


class _Capsule:
    """Lets numpy take a bare capsule."""

    __slots__ = ("_capsule",)

    def __init__(self, capsule):
        self._capsule = capsule

    def __dlpack__(self, **_):
        return self._capsule

    def __dlpack_device__(self):
        return (CPU, 0)
