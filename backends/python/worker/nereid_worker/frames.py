"""Frames between the server and this worker: the layout that `frame.rs` describes."""

import struct

INIT = 1
EXECUTE = 2
CALL_ANSWER = 3
FINALIZE = 4
RELEASE_CHUNKS = 5
CANCEL = 6
WATCHED = 7
EXECUTE_NESTED = 8
ASK_READY = 9
ROOM = 10
MAP = 11
UNMAP = 12
RELEASE_DEVICE = 13
READY = 101
FAILED = 102
EXECUTED = 103
CALL = 104
RELEASE_ANSWERS = 105
LOG = 106
FINALIZED = 107
RESPONSE = 108
WATCH = 109
CANCEL_CALL = 110
CONTROL = 111
METRIC = 112
READY_STATE = 113
KEEP = 114
MAPPED = 115

INLINE = 0xFFFFFFFFFFFFFFFF
DEVICE = INLINE - 1

HEAD = struct.Struct("<IHHQ")
BLOCK = struct.Struct("<IIII")
PLACE = struct.Struct("<QQ")
_TENSOR = struct.Struct("<HBB")
_PADDING = (b"", b"\0" * 7, b"\0" * 6, b"\0" * 5, b"\0" * 4, b"\0" * 3, b"\0" * 2, b"\0")


def padding(length):
    """What brings `length` bytes to a multiple of eight."""
    return _PADDING[length & 7]


def frame(kind, frame_id, count=0, body=b""):
    """A whole frame around a body whose length is a multiple of eight."""
    return HEAD.pack(16 + len(body), kind, count, frame_id) + body


def block(extras, meta, places, data_len):
    """A block up to its inline bytes, of which `data_len` follow with their padding; `places` are
    (location, length) pairs."""
    table = b"".join([PLACE.pack(*place) for place in places])
    body = b"".join((extras, padding(len(extras)), meta, table))
    length = 16 + len(body) + data_len
    return BLOCK.pack(length, len(extras), len(meta), len(places)) + body


def describe(tensors):
    """The descriptor of (name, datatype number, shape) triples."""
    parts = []
    for name, number, shape in tensors:
        encoded = name.encode()
        parts.append(_TENSOR.pack(len(encoded), number, len(shape)))
        parts.append(encoded)
        parts.append(padding(4 + len(encoded)))
        parts.append(struct.pack("<%dq" % len(shape), *shape))
    return b"".join(parts)


def read_tensors(described, meta_len):
    """What a block says of its tensors: (name, datatype number, shape, location, length)."""
    tensors = []
    at, place = 0, meta_len
    while at < meta_len:
        name_len, number, ndim = _TENSOR.unpack_from(described, at)
        name = described[at + 4 : at + 4 + name_len].decode()
        at += (4 + name_len + 7) & ~7
        shape = struct.unpack_from("<%dq" % ndim, described, at)
        at += 8 * ndim
        tensors.append((name, number, shape, *PLACE.unpack_from(described, place)))
        place += 16
    return tensors
