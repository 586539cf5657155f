"""The arena: memory shared with the server, and the part of it that this worker allocates in."""

import mmap
import threading


class Arena:
    """Maps the whole arena to write tensors into."""

    def __init__(self, fd, length):
        self.descriptor = fd
        self.map = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.length = length
        self._next = self._end = 0
        self._free = {}
        self._class_of = {}
        # Threads of a decoupled model answer while the next batch is being answered.
        self._lock = threading.Lock()

    def set_span(self, offset, length):
        """Gives this worker the range that it may allocate in."""
        self._next = offset
        self._end = offset + length

    def allocate(self, length):
        """A chunk of the span; it stays taken until the server releases it."""
        size = _size_class(length)
        if size >= _LARGE:
            _check_memory(length)
        with self._lock:
            free = self._free.get(size)
            if free:
                offset = free.pop()
            elif self._next + size <= self._end:
                offset = self._next
                self._next = offset + size
            else:
                # Nothing untouched is left: a chunk that is larger than needed will do.
                size = min((s for s, free in self._free.items() if s > size and free), default=0)
                if not size:
                    raise MemoryError(
                        "no shared memory left for a tensor of %d bytes" % length
                    )
                offset = self._free[size].pop()
            self._class_of[offset] = size
        return offset

    def release(self, offset):
        """The server has dropped the tensor at `offset`."""
        with self._lock:
            size = self._class_of.pop(offset, None)
            if size is not None:
                self._free.setdefault(size, []).append(offset)


# Who takes less is not checked: the answer would cost more than it is worth.
_LARGE = 256 << 20


def _check_memory(length):
    """Refuses what is more than the machine has left: writing it would end this process, or
    another one."""
    with open("/proc/meminfo") as lines:
        left = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    if left and length > left[0]:
        raise MemoryError(
            "a tensor of %d bytes does not fit into the %d bytes of memory that are left"
            % (length, left[0])
        )


def _size_class(length):
    """Rounds up to four sizes per power of two, so that freed chunks fit again."""
    length = max(length, 1 << 16)
    quarter = 1 << max((length - 1).bit_length() - 3, 12)
    return (length + quarter - 1) // quarter * quarter
