"""Shared memory of clients, in which this worker reads inputs where they are.

A region is mapped privately: its client does not see what a model writes to an input. Pages that
were written to are the model's own from then on and would hide what the client puts there for its
next request, so they are dropped when the request is over.
"""

import bisect
import ctypes
import mmap
import os
import resource
import threading

import numpy as np

_PAGE = mmap.PAGESIZE

# What the kernel tells of a page: whether it belongs to a file, and whether it is there at all.
_OF_FILE = 1 << 61
_THERE = 3 << 62


class Regions:
    """The regions that the server has told of, by the location of their start."""

    def __init__(self):
        self._starts = []
        self._mapped = {}
        # How many inputs are in use, and the page faults of this process when there were none: a
        # page is written to for the first time with a fault.
        self._in_use = 0
        self._faults = 0
        self._lock = threading.Lock()

    def map(self, location, length, descriptor, offset):
        """Maps what a descriptor of the server refers to. False if that cannot be."""
        file = "/proc/%s/fd/%d" % (os.environ["NEREID_SERVER_PID"], descriptor)
        try:
            region = _Region(os.open(file, os.O_RDONLY | os.O_CLOEXEC), length, offset)
        except (OSError, ValueError):
            return False
        with self._lock:
            self._mapped[location] = region
            bisect.insort(self._starts, location)
        return True

    def unmap(self, location):
        """Forgets a region; it stays mapped while an array over it lives."""
        with self._lock:
            if self._mapped.pop(location, None) is not None:
                self._starts.remove(location)

    def lend(self, location, length):
        """An input as an object that every array over it keeps alive; `settle` must follow."""
        with self._lock:
            region, start = self._at(location)
            if not self._in_use:
                self._faults = _faults()
            self._in_use += 1
            return (ctypes.c_char * length).from_buffer(region.memory, location - start)

    def settle(self, memory, location, length, kept):
        """The request of an input is over; `kept`: the model holds on to it. Returns whether the
        model needs inputs of its own."""
        with self._lock:
            self._in_use -= 1
            region, start = self._at(location)
            if kept:
                # The memory stays the model's; what comes next is seen in another mapping.
                own(memory)
                region.map()
                return True
            if not self._written(ctypes.addressof(memory), length):
                return False
            region.drop(location - start, length)
            return True

    def location_of(self, address, length):
        """Where memory lies in a region, or None; also if the model has written to it."""
        for location, region in self._mapped.items():
            start = region.address
            if start <= address and address + length <= start + region.length:
                if self._written(address, length):
                    return None
                return location + address - start
        return None

    def _at(self, location):
        start = self._starts[bisect.bisect_right(self._starts, location) - 1]
        return self._mapped[start], start

    def _written(self, address, length):
        """Whether some of these pages are not the file's any more."""
        if _faults() == self._faults:
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


class _Region:
    """One region, mapped as long as this or an array over it lives."""

    def __init__(self, descriptor, length, offset):
        self._descriptor, self.length, self._offset = descriptor, length, offset
        self.map()

    def map(self):
        """Maps it, if need be once more."""
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self.memory = mmap.mmap(
            self._descriptor, self.length, mmap.MAP_PRIVATE, access, offset=self._offset
        )
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def drop(self, first, length):
        """Shows again what the client has put there."""
        start = first // _PAGE * _PAGE
        self.memory.madvise(mmap.MADV_DONTNEED, start, first + length - start)

    def __del__(self):
        os.close(self._descriptor)


def own(memory):
    """Writes to every page of an input what is there: none changes any more with the region."""
    touched = np.frombuffer(memory, np.uint8)
    for part in (touched[::_PAGE], touched[-1:]):
        np.bitwise_or(part, 0, out=part)


def _faults():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt
