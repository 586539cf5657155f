"""Triton's datatypes and numpy's."""

import struct

import numpy as np

from nereid_worker.errors import TritonModelException

# Number in model_config.proto, name in a configuration, numpy's type.
_ROWS = (
    (1, "TYPE_BOOL", np.bool_),
    (2, "TYPE_UINT8", np.uint8),
    (3, "TYPE_UINT16", np.uint16),
    (4, "TYPE_UINT32", np.uint32),
    (5, "TYPE_UINT64", np.uint64),
    (6, "TYPE_INT8", np.int8),
    (7, "TYPE_INT16", np.int16),
    (8, "TYPE_INT32", np.int32),
    (9, "TYPE_INT64", np.int64),
    (10, "TYPE_FP16", np.float16),
    (11, "TYPE_FP32", np.float32),
    (12, "TYPE_FP64", np.float64),
    (13, "TYPE_STRING", np.object_),
)
STRING = 13
BF16 = 14

NUMPY_OF = {number: np.dtype(kind) for number, _, kind in _ROWS}
NUMBER_OF = {np.dtype(kind): number for number, _, kind in _ROWS}
NAME_OF = {number: name for number, name, _ in _ROWS}
NAME_OF[BF16] = "TYPE_BF16"


def number_of(dtype):
    """The datatype number for a numpy dtype; any kind of text is a string."""
    number = NUMBER_OF.get(dtype)
    if number is None:
        if dtype.kind in "SUO":
            return STRING
        raise TritonModelException("NumPy dtype is not supported.")
    return number


def pack_strings(array):
    """The bytes of a string tensor: each element behind its length."""
    parts = []
    for element in np.ravel(array, order="C"):
        if isinstance(element, bytes):
            encoded = element
        elif isinstance(element, np.bytes_):
            encoded = bytes(element)
        else:
            encoded = str(element).encode("utf-8")
        parts.append(struct.pack("<I", len(encoded)))
        parts.append(encoded)
    return b"".join(parts)


def unpack_strings(data):
    """The elements of a string tensor as a flat object array of bytes."""
    data = bytes(data)
    elements = []
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        elements.append(data[at : at + length])
        at += length
    if at > len(data):
        raise struct.error("the last string has %d bytes more than there are" % (at - len(data)))
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array
