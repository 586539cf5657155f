"""NVIDIA's driver by its C interface: what tensors need of it to go from process to process."""

import ctypes
import functools
from contextlib import contextmanager

import numpy as np

HANDLE_SIZE = 64

# Lets other GPUs of this machine reach the memory.
_LAZY_ENABLE_PEER_ACCESS = 1

_Pointer = ctypes.c_uint64
_Handle = ctypes.c_char * HANDLE_SIZE


class _ByValue(ctypes.Structure):
    """A handle as an argument."""

    _fields_ = [("bytes", _Handle)]


class CudaError(Exception):
    """The driver has refused something."""


@functools.lru_cache(maxsize=None)
def driver():
    """The driver, if there is one and it knows a GPU; else None."""
    try:
        found = Driver(ctypes.CDLL("libcuda.so.1"))
        count = ctypes.c_int()
        found.call("cuDeviceGetCount", ctypes.byref(count))
    except (OSError, AttributeError, CudaError):
        return None
    return found if count.value else None


class Driver:
    """The driver's functions, each in the context that a device's process shares with frameworks."""

    def __init__(self, library):
        self._library = library
        self._contexts = {}
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, name, *arguments):
        """Calls a function and raises what it answers."""
        status = getattr(self._library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(status, ctypes.byref(text))
            raise CudaError((text.value or b"error %d" % status).decode())

    def make_current(self, device):
        """Makes a device the one that frameworks use in this thread if they are not told."""
        self.call("cuCtxSetCurrent", self._context(device))

    def _context(self, device):
        context = self._contexts.get(device)
        if context is None:
            number, context = ctypes.c_int(), ctypes.c_void_p()
            self.call("cuDeviceGet", ctypes.byref(number), device)
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), number)
            self._contexts[device] = context
        return context

    @contextmanager
    def _on(self, device):
        """Makes a device current, and leaves the model's own choice as it was."""
        self.call("cuCtxPushCurrent_v2", self._context(device))
        try:
            yield
        finally:
            self.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def share(self, device, address):
        """How another process reaches memory: the handle of its whole allocation, and where in that
        it starts. What the device was to write before has been written then."""
        base, size, handle = _Pointer(), ctypes.c_size_t(), _ByValue()
        with self._on(device):
            self.call("cuCtxSynchronize")
            self.call(
                "cuMemGetAddressRange_v2",
                ctypes.byref(base),
                ctypes.byref(size),
                _Pointer(address),
            )
            self.call("cuIpcGetMemHandle", ctypes.byref(handle), base)
        return bytes(handle), address - base.value

    def open(self, device, handle):
        """The address of another process's allocation."""
        base = _Pointer()
        with self._on(device):
            self.call(
                "cuIpcOpenMemHandle_v2",
                ctypes.byref(base),
                _ByValue.from_buffer_copy(handle),
                ctypes.c_uint(_LAZY_ENABLE_PEER_ACCESS),
            )
        return base.value

    def close(self, device, base):
        """Lets go of what `open` gave, once the device has done what it was asked for."""
        with self._on(device):
            self.call("cuCtxSynchronize")
            self.call("cuIpcCloseMemHandle", _Pointer(base))

    def to_host(self, device, address, length):
        """A copy in the host's memory, as an array of bytes."""
        copy = np.empty(length, np.uint8)
        with self._on(device):
            self.call("cuCtxSynchronize")
            self.call(
                "cuMemcpyDtoH_v2",
                ctypes.c_void_p(copy.ctypes.data),
                _Pointer(address),
                ctypes.c_size_t(length),
            )
        return copy

    def to_device(self, device, array):
        """The address of a copy of an array, which `free` gives back."""
        address = _Pointer()
        with self._on(device):
            self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(array.nbytes))
            self.call(
                "cuMemcpyHtoD_v2",
                address,
                ctypes.c_void_p(array.ctypes.data),
                ctypes.c_size_t(array.nbytes),
            )
        return address.value

    def free(self, device, address):
        """Gives back what `to_device` took, once the device has done what it was asked for."""
        with self._on(device):
            self.call("cuMemFree_v2", _Pointer(address))
