"""Memory of the server and of clients, in which this worker looks at tensors where they are.

It is mapped privately: what a model writes to a tensor stays its own, and neither the client sees
it nor another model that has the same tensor. The kernel copies the pages that are written to, and
they would hide what is put there for the next request; so a model that writes to its tensors gets
copies from then on, which cost less than copied pages.
"""

import bisect
import ctypes
import mmap
import os
import resource
import threading

import numpy as np

_PAGE = mmap.PAGESIZE
# Python knows it from 3.11 on.
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)

# What the kernel tells of a page: whether it belongs to a file, and whether it is there at all.
_OF_FILE = 1 << 61
_THERE = 3 << 62


class Lent:
    """The tensors that a model looks at where they are. Locations are the server's: offsets in the
    arena, and behind it what it has given to regions of clients."""

    def __init__(self, arena):
        self._arena = arena.length
        self._mappings = {0: _Mapping(arena.descriptor, arena.length, 0, arena.map)}
        self._starts = [0]
        # The tensors by their address, and, sorted, where those lie that are looked at in one of the
        # mappings above.
        self._tensors = {}
        self._taken = []
        # The model has written to a tensor: it gets copies.
        self._copies = not self._mappings[0].map()
        # The last array over a tensor may be dropped anywhere, even by a thread that is in here.
        self._lock = threading.RLock()

    def map(self, location, length, descriptor, offset):
        """Maps a client's region, which a descriptor of the server refers to. False if that cannot
        be."""
        file = "/proc/%s/fd/%d" % (os.environ["NEREID_SERVER_PID"], descriptor)
        try:
            region = _Mapping(os.open(file, os.O_RDONLY | os.O_CLOEXEC), length, offset)
        except OSError:
            return False
        if not region.map():
            return False
        with self._lock:
            self._mappings[location] = region
            bisect.insort(self._starts, location)
        return True

    def unmap(self, location):
        """Forgets a region; it stays mapped while an array over it lives."""
        with self._lock:
            if self._mappings.pop(location, None) is not None:
                self._starts.remove(location)

    def lend(self, location, length):
        """The memory of a tensor, as an object that every array over it keeps alive: numpy keeps what
        a memoryview looks at, but not the memoryview. If it is not a copy, `settle` must be called
        when it is not used any more."""
        with self._lock:
            start, mapping = self._at(location)
            first = location - start
            if self._copies:
                return mapping.copy(first, length)
            taken = self._range(location, length)
            if self._is_free(taken):
                bisect.insort(self._taken, taken)
            else:
                # What is written to one of two tensors must not be seen in the other.
                taken, before = None, first % _PAGE
                mapping, first = mapping.part(first - before, before + length), before
            memory = (ctypes.c_char * length).from_buffer(mapping.memory, first)
            lent = _Tensor(location, length, taken, _faults())
            self._tensors[ctypes.addressof(memory)] = lent
            return memory

    def settle(self, address):
        """A tensor is not looked at any more. Returns what was known of it."""
        with self._lock:
            lent = self._tensors.pop(address)
            if lent.taken:
                self._taken.remove(lent.taken)
            self._copies = self._copies or _written(address, lent.length, lent.faults)
            return lent

    def give(self, memory, failed):
        """The request of a client's tensor is over, but the model holds on to it: from now on it is
        the model's own. If it has `failed`, it is the traceback that holds on to it."""
        with self._lock:
            lent = self.settle(ctypes.addressof(memory))
            _touch(memory)
            # What comes next must be seen: in copies, or where nothing was written to.
            seen = failed and self._at(lent.location)[1].map()
            self._copies = self._copies or not seen

    def own(self, memory):
        """Makes a tensor of a client the model's own while its request goes on."""
        lent = self._tensors.get(ctypes.addressof(memory))
        if lent is not None and lent.location >= self._arena:
            _touch(memory)

    def location_of(self, address, length):
        """Where the server finds what is at an address, or None; also if it was written to."""
        with self._lock:
            for start, lent in list(self._tensors.items()):
                if start <= address and address + length <= start + lent.length:
                    if _written(address, length, lent.faults):
                        return None
                    return lent.location + address - start
        return None

    def _at(self, location):
        start = self._starts[bisect.bisect_right(self._starts, location) - 1]
        return start, self._mappings[start]

    def _range(self, location, length):
        """What a tensor occupies. Regions are shown anew page by page, chunks of the arena are not
        used for anything else while a part of them is looked at."""
        if location < self._arena:
            return location, location + length
        return location // _PAGE * _PAGE, -(-(location + length) // _PAGE) * _PAGE

    def _is_free(self, wanted):
        at = bisect.bisect(self._taken, wanted)
        return (at == 0 or self._taken[at - 1][1] <= wanted[0]) and (
            at == len(self._taken) or wanted[1] <= self._taken[at][0]
        )


class _Tensor:
    """A tensor that is looked at: where, and how many page faults this process had had before. A page
    is written to for the first time with a fault."""

    __slots__ = ("location", "length", "taken", "faults")

    def __init__(self, location, length, taken, faults):
        self.location, self.length, self.taken, self.faults = location, length, taken, faults


class _Mapping:
    """A file that others write to, mapped as long as this or an array over it lives."""

    def __init__(self, descriptor, length, offset, shared=None):
        self._descriptor, self._length, self._offset = descriptor, length, offset
        # Where it is seen as it is now, if it is.
        self._shared = shared

    def map(self):
        """Maps it, if need be once more. Whether it could be mapped."""
        try:
            self.memory = mmap.mmap(
                self._descriptor,
                self._length,
                mmap.MAP_PRIVATE | _NORESERVE,
                mmap.PROT_READ | mmap.PROT_WRITE,
                offset=self._offset,
            )
        except (OSError, ValueError):
            return False
        return True

    def part(self, first, length):
        """A part of it, which starts on a page, mapped once more."""
        part = _Mapping(os.dup(self._descriptor), length, self._offset + first)
        if not part.map():
            raise MemoryError("no room for another mapping of %d bytes" % length)
        return part

    def copy(self, first, length):
        """What is in the file now."""
        if self._shared is None:
            self._shared = mmap.mmap(
                self._descriptor,
                self._length,
                mmap.MAP_SHARED,
                mmap.PROT_READ,
                offset=self._offset,
            )
        there = np.frombuffer(self._shared, np.uint8, length, first)
        room = np.empty(length + _PAGE, np.uint8)
        # At the same place in a page: some processors copy many times slower to one a little behind.
        start = (there.ctypes.data - room.ctypes.data) % _PAGE
        copied = room[start : start + length]
        copied[:] = there
        return copied

    def __del__(self):
        os.close(self._descriptor)


def _touch(memory):
    """Writes to every page what is there: none changes any more with its file."""
    touched = np.frombuffer(memory, np.uint8)
    for part in (touched[::_PAGE], touched[-1:]):
        np.bitwise_or(part, 0, out=part)


def _written(address, length, faults):
    """Whether some of these pages are not the file's any more; there were so many faults before."""
    if _faults() == faults:
        return False
    first, last = address // _PAGE, (address + length - 1) // _PAGE
    size = 8 * (last + 1 - first)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            told = os.pread(pagemap.fileno(), size, 8 * first)
    except OSError:
        return True
    pages = np.frombuffer(told, np.uint64)
    return len(told) < size or bool(
        np.any((pages & np.uint64(_OF_FILE) == 0) & (pages & np.uint64(_THERE) != 0))
    )


def _faults():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt
