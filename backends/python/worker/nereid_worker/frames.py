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

INLINE = 0xFFFFFFFFFFFFFFFF

HEAD = struct.Struct("<IHHQ")
BLOCK = struct.Struct("<IIII")
PLACE = struct.Struct("<QQ")
_TENSOR = struct.Struct("<HBB")
_PADDING = (b"", b"\0" * 7, b"\0" * 6, b"\0" * 5, b"\0" * 4, b"\0" * 3, b"\0" * 2, b"\0")

# Descriptors seen before, by their bytes: most requests of a model look alike.
_metas = {}
_METAS_KEPT = 1024


def padding(length):
    """What brings `length` bytes to a multiple of eight."""
    return _PADDING[length & 7]


def frame(kind, frame_id, count=0, body=b""):
    """A whole frame around a body whose length is a multiple of eight."""
    return HEAD.pack(16 + len(body), kind, count, frame_id) + body


def block(extras, meta, places, data):
    """A block: `places` are (location, length) pairs, `data` the padded inline bytes."""
    count = len(places)
    table = PLACE.pack(*places[0]) if count == 1 else b"".join(PLACE.pack(*p) for p in places)
    body = b"".join((extras, padding(len(extras)), meta, table, data))
    return BLOCK.pack(16 + len(body), len(extras), len(meta), count) + body


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


def read_meta(meta):
    """The (name, datatype number, shape) triples of a descriptor."""
    known = _metas.get(meta)
    if known is not None:
        return known
    tensors = []
    at = 0
    while at < len(meta):
        name_len, number, ndim = _TENSOR.unpack_from(meta, at)
        name = meta[at + 4 : at + 4 + name_len].decode()
        at += (4 + name_len + 7) & ~7
        shape = struct.unpack_from("<%dq" % ndim, meta, at)
        at += 8 * ndim
        tensors.append((name, number, shape))
    if len(_metas) >= _METAS_KEPT:
        _metas.clear()
    _metas[meta] = tensors
    return tensors
