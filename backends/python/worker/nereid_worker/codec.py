"""Tensors into frames and out of them; large ones by their place in the arena."""

import ctypes
import itertools
import json
import struct
import sys
import weakref

import numpy as np

from nereid_worker import device, errors, frames, lent, tensor
from nereid_worker.datatypes import STRING

_INLINE_BELOW = 1 << 16
# How many starts of blocks are kept, and how long extras may be that are worth keeping.
_KNOWN = 1024
_SHORT = 256

# Inputs that are kept are numbered from here: calls have small numbers.
_KEPT = 1 << 62


class Codec:
    """Reads and writes blocks. `release` is called with the number of an answer to a call of this
    model's, or of whatever else is lent to it, when the last view of its memory has gone."""

    def __init__(self, arena, release):
        self.arena = arena
        self.lent = lent.Lent(arena)
        self.devices = device.Devices(release)
        self._release = release
        # By the number of an answer to a call: what lives of its tensors.
        self._answers = {}
        self._kept = itertools.count(_KEPT)
        # The starts of blocks written before, and the tensors of blocks read before: most requests
        # of a model look alike but for their numbers.
        self._heads = {}
        self._seen = {}

    def encode(self, tensors, extras=b"", taken=None):
        """A block with these tensors; large ones are put into the arena.

        What they take is noted in `taken`; without it, an error frees it.
        """
        key, data = [extras], [b""]
        for one in tensors:
            array, number = one._array, one._number
            if array is None or number == STRING or array.nbytes >= _INLINE_BELOW:
                return self._encode_placed(tensors, extras, taken)
            packed = array.tobytes()
            data.append(packed)
            if len(packed) & 7:
                data.append(frames.padding(len(packed)))
            key += one._name, number, one._shape
        key = tuple(key)
        head = self._heads.get(key)
        if head is None:
            places = [(frames.INLINE, one._array.nbytes) for one in tensors]
            data_len = sum(map(len, data))
            head = frames.block(extras, _describe(tensors), places, data_len)
            if len(extras) <= _SHORT:
                _remember(self._heads, key, head)
        data[0] = head
        return b"".join(data)

    def _encode_placed(self, tensors, extras, taken):
        """As `encode`, of tensors that are not all small and of numbers."""
        if taken is None:
            taken = []
            try:
                return self._encode_placed(tensors, extras, taken)
            except BaseException:
                self.free(taken)
                raise
        places, data = [], [b""]
        for one in tensors:
            array = one._array
            if type(one._data) is device.DeviceMemory:
                self._place_device(one._data, places, data, taken)
            elif array is None or one._number == STRING:
                self._place_bytes(one._data, places, data, taken)
            elif array.nbytes < _INLINE_BELOW:
                self._place_bytes(array.tobytes(), places, data, taken)
            else:
                places.append((self._place_array(array, taken), array.nbytes))
        data[0] = frames.block(extras, _describe(tensors), places, sum(map(len, data)))
        return b"".join(data)

    def free(self, taken):
        """Gives back what no frame has named: chunks, and the memory of GPUs."""
        for number in taken:
            self.arena.release(number)
            self.devices.forget(number)

    def _place_array(self, array, taken):
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        address = array.__array_interface__["data"][0]
        offset = self.lent.location_of(address, array.nbytes)
        if offset is None:
            offset = self.arena.allocate(array.nbytes)
            taken.append(offset)
            np.copyto(np.ndarray(array.shape, array.dtype, self.arena.map, offset), array)
        return offset

    def _place_device(self, memory, places, data, taken):
        described = self.devices.describe(memory, taken)
        if described is None:
            self._place_bytes(device.copied(memory), places, data, taken)
        else:
            places.append((frames.DEVICE, memory.length))
            data.append(described)

    def _place_bytes(self, packed, places, data, taken):
        length = len(packed)
        if length < _INLINE_BELOW:
            places.append((frames.INLINE, length))
            data.append(bytes(packed))
            data.append(frames.padding(length))
            return
        places.append((self._place_array(np.frombuffer(packed, np.uint8), taken), length))

    def encode_response(self, response, extras=None, taken=None):
        """A block for one response, or for the error that it turned out to be."""
        taken = [] if taken is None else taken
        before = len(taken)
        try:
            if extras is None and response._error is None and not response._parameters:
                return self.encode(response._outputs, b"", taken)
            extras = extras or {}
            if response._error is not None:
                extras.update(errors.to_extras(response._error))
                return self.note(extras)
            if response._parameters:
                extras["parameters"] = response._parameters
            return self.encode(response._outputs, json.dumps(extras).encode(), taken)
        except BaseException as error:
            self.free(taken[before:])
            del taken[before:]
            if not isinstance(error, MemoryError):
                raise
            extras = {**(extras or {}), **errors.to_extras(errors.TritonError(str(error)))}
            return self.note(extras)

    def note(self, extras):
        """A block without tensors."""
        return frames.block(json.dumps(extras).encode(), b"", (), 0)

    def decode(self, body, at, lender=None, borrowed=None):
        """The block at `at`: its tensors, its extras, and where the next one starts.

        Large tensors lie in the arena, or in regions of clients. Those of an answer are the model's
        until it drops them, and `lender` is told then. Those of a request are the server's, and are
        noted in `borrowed`: whoever decodes must look after them with `keep`.
        """
        block_len, extras_len, meta_len, count = frames.BLOCK.unpack_from(body, at)
        start = at + 16
        extras = body[start : start + extras_len] if extras_len else b""
        start += (extras_len + 7) & ~7
        data = start + meta_len + 16 * count
        described = body[start:data]
        seen = self._seen.get(described)
        if seen is None:
            seen = frames.read_tensors(described, meta_len)
            if all(one[3] == frames.INLINE for one in seen):
                _remember(self._seen, described, seen)
        tensors = []
        for name, number, shape, location, length in seen:
            if location == frames.INLINE:
                # A copy of its own: the model may write to it and may keep it.
                memory = bytearray(body[data : data + length])
                data += (length + 7) & ~7
            elif location == frames.DEVICE:
                described = body[data : data + device.DESCRIBED.size]
                memory = self.devices.receive(described, length)
                data += device.DESCRIBED.size
            else:
                memory = self.lent.lend(location, length)
                in_place = isinstance(memory, ctypes.Array)
                if lender is not None:
                    self._answers.setdefault(lender, []).append(None)
                    address = ctypes.addressof(memory) if in_place else None
                    weakref.finalize(memory, self._dropped, lender, address).atexit = False
                elif in_place:
                    borrowed.append((memory, location, length))
            tensors.append(tensor.received(name, number, shape, memory))
        return tensors, extras, at + block_len

    def keep(self, frame_id, borrowed, failed=False):
        """The frame that asks for inputs in `borrowed` that the model holds on to; they are given
        back when it drops them. Empty if it holds on to none."""
        numbers = []
        while borrowed:
            memory, location, length = borrowed.pop()
            address = ctypes.addressof(memory)
            # This name, and the argument of getrefcount.
            kept = sys.getrefcount(memory) > 2
            if kept and location < self.arena.length:
                number = next(self._kept)
                numbers += (number, location, length)
                weakref.finalize(memory, self._given_back, number, address).atexit = False
            elif kept:
                self.lent.give(memory, failed)
            else:
                self.lent.settle(address)
        if not numbers:
            return b""
        return frames.frame(frames.KEEP, frame_id, 0, struct.pack("<%dQ" % len(numbers), *numbers))

    def own(self, tensors):
        """Makes inputs of clients the model's own before their request is over."""
        for one in tensors:
            if isinstance(one._data, ctypes.Array):
                self.lent.own(one._data)

    def _given_back(self, number, address):
        """The last view of an input that was kept is gone."""
        self.lent.settle(address)
        self._release(number)

    def _dropped(self, lender, address):
        """The last view of one tensor of an answer is gone. Runs in whatever thread dropped it."""
        if address is not None:
            self.lent.settle(address)
        left = self._answers[lender]
        left.pop()
        if not left and self._answers.pop(lender, None) is not None:
            self._release(lender)


def _describe(tensors):
    return frames.describe([(one._name, one._number, tuple(one._shape)) for one in tensors])


def _remember(known, key, value):
    if len(known) >= _KNOWN:
        known.clear()
    known[key] = value
