"""The arena: memory shared with the server, and the part of it that this worker allocates in."""

import ctypes
import mmap

_ALIGNMENT = 4096


class Arena:
    """Maps the whole arena once; tensors are looked at in place."""

    def __init__(self, fd, length):
        self.map = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.view = memoryview(self.map)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.length = length
        self._next = self._end = 0
        self._free = {}
        self._class_of = {}

    def set_span(self, offset, length):
        """Gives this worker the range that it may allocate in."""
        self._next = offset
        self._end = offset + length

    def offset_of(self, address, length):
        """Where memory lies in the arena, or None."""
        offset = address - self.address
        return offset if 0 <= offset and offset + length <= self.length else None

    def allocate(self, length):
        """A chunk of the span; it stays taken until the server releases it."""
        size = _size_class(length)
        free = self._free.get(size)
        if free:
            offset = free.pop()
        else:
            offset = self._next
            if offset + size > self._end:
                raise MemoryError(
                    "no shared memory left for an output of %d bytes" % length
                )
            self._next = offset + size
        self._class_of[offset] = size
        return offset

    def release(self, offset):
        """The server has dropped the tensor at `offset`."""
        size = self._class_of.pop(offset, None)
        if size is not None:
            self._free.setdefault(size, []).append(offset)


def _size_class(length):
    """Rounds up to four sizes per power of two, so that freed chunks fit again."""
    length = max(length, 1 << 16)
    quarter = 1 << max((length - 1).bit_length() - 3, 12)
    return (length + quarter - 1) // quarter * quarter
