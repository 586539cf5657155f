"""Arrays in the memory of a GPU, for the models of these tests: what they use of torch or cupy.

Speaks DLPack and the driver's interface on its own, not through the worker's code.
"""

import ctypes

import numpy as np

CUDA = ctypes.CDLL("libcuda.so.1")
API = ctypes.pythonapi
DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
KINDS = {0: "i", 1: "u", 2: "f", 4: "u", 6: "b"}

API.PyCapsule_New.restype = ctypes.py_object
API.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
API.PyCapsule_GetPointer.restype = ctypes.c_void_p
API.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
API.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
# Of a capsule that is being destroyed.
IS_NAMED = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", API)
)
LAST_POINTER = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", API)
)
# These must outlive what is named and exported.
FRESH, USED = b"dltensor", b"used_dltensor"
EXPORTED = {}


class Managed(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_uint64),
        ("device", ctypes.c_int32 * 2),
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


@DELETER
def forget(address):
    del EXPORTED[address]


@DELETER
def destroy(capsule):
    """A capsule goes that nobody may have taken."""
    if IS_NAMED(capsule, b"dltensor"):
        del EXPORTED[LAST_POINTER(capsule, b"dltensor")]


def use(device):
    """Makes a device current, as a framework does."""
    context = ctypes.c_void_p()
    assert CUDA.cuInit(0) == 0
    assert CUDA.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    assert CUDA.cuCtxSetCurrent(context) == 0


def current():
    """The device that this thread uses."""
    device = ctypes.c_int()
    assert CUDA.cuCtxGetDevice(ctypes.byref(device)) == 0
    return device.value


class Array:
    """`Array(values, device)` allocates; a part of it and what comes by DLPack does not."""

    def __init__(self, values, device=0):
        values = np.ascontiguousarray(values)
        address = ctypes.c_uint64()
        use(device)
        assert CUDA.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(values.nbytes or 1)) == 0
        at = ctypes.c_void_p(values.ctypes.data)
        assert CUDA.cuMemcpyHtoD_v2(address, at, ctypes.c_size_t(values.nbytes)) == 0
        self._set(device, address.value, values.shape, values.dtype)
        self._free = lambda: CUDA.cuMemFree_v2(ctypes.c_uint64(address.value))

    def _set(self, device, address, shape, dtype, strides=None):
        self.device, self.address, self.shape, self.dtype = device, address, shape, dtype
        self.strides = strides
        self.code = {kind: code for code, kind in KINDS.items() if code != 4}[dtype.kind]

    def part(self, start, stop):
        """Rows of it, in the same memory."""
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        part = Array.__new__(Array)
        part._set(self.device, self.address + start * row, (stop - start, *self.shape[1:]), self.dtype)
        part._free = lambda: self and None
        return part

    @classmethod
    def of(cls, tensor):
        """Over the memory of anything with `__dlpack__`."""
        capsule = tensor.__dlpack__()
        managed = Managed.from_address(API.PyCapsule_GetPointer(capsule, b"dltensor"))
        API.PyCapsule_SetName(capsule, USED)
        array = cls.__new__(cls)
        dtype = np.dtype("%s%d" % (KINDS[managed.code], managed.bits // 8))
        assert managed.device[0] == 2 and managed.lanes == 1 and not managed.strides
        array._set(managed.device[1], managed.data, tuple(managed.shape[: managed.ndim]), dtype)
        array.code = managed.code
        delete = DELETER(managed.deleter)
        array._free = lambda: delete(ctypes.addressof(managed))
        return array

    def numpy(self):
        """A copy for the CPU."""
        copy = np.empty(self.shape, self.dtype)
        use(self.device)
        to, size = ctypes.c_void_p(copy.ctypes.data), ctypes.c_size_t(copy.nbytes)
        assert CUDA.cuMemcpyDtoH_v2(to, ctypes.c_uint64(self.address), size) == 0
        return copy

    def handle(self):
        """What lets another process open it."""
        handle = ctypes.create_string_buffer(64)
        use(self.device)
        assert CUDA.cuIpcGetMemHandle(handle, ctypes.c_uint64(self.address)) == 0
        return handle.raw

    def __dlpack_device__(self):
        return (2, self.device)

    def __dlpack__(self, stream=None):
        numbers = ctypes.c_int64 * len(self.shape)
        shape = numbers(*self.shape)
        strides = numbers(*self.strides) if self.strides else None
        managed = Managed(
            data=self.address,
            device=(2, self.device),
            ndim=len(self.shape),
            code=self.code,
            bits=8 * self.dtype.itemsize,
            lanes=1,
            shape=shape,
            strides=strides,
            deleter=ctypes.cast(forget, ctypes.c_void_p),
        )
        address = ctypes.addressof(managed)
        EXPORTED[address] = (managed, shape, strides, self)
        return API.PyCapsule_New(address, FRESH, ctypes.cast(destroy, ctypes.c_void_p))

    def __del__(self):
        if hasattr(self, "_free"):
            self._free()
