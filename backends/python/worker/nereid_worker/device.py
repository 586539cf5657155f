"""Tensors of other devices than the CPU.

What lies in the memory of one of NVIDIA's GPUs stays there, also on its way to another worker, if the
server knows GPUs too. All else is copied into the CPU's memory before it leaves this worker, and a
warning says so.
"""

import itertools
import os
import struct
import sys
import weakref
from typing import Any

from nereid_worker import cuda, dlpack
from nereid_worker.errors import TritonModelException

CUDA = 2

# TRITONSERVER_MEMORY_CPU and _GPU.
_PREFERS_CPU, _PREFERS_GPU = 0, 2

# The CPU's memory, and such of CUDA and ROCm as the CPU can read: pinned and managed.
_READABLE = (dlpack.CPU, 3, 11, 13)

# Handle, device, offset, owner, number, lease: see `frame.rs`.
DESCRIBED = struct.Struct("<%ds5Q" % cuda.HANDLE_SIZE)

# Tensors that others look at are numbered from here: places in the arena are smaller.
_SHARED = 1 << 62

_warned = set()


class DeviceMemory:
    """Memory of a GPU, as long as this lives."""

    __slots__ = ("device", "address", "length", "_owner", "__weakref__")

    def __init__(self, device: int, address: int, length: int, owner: Any = None):
        self.device = device
        self.address = address
        self.length = length
        self._owner = owner

    def when_dropped(self, function, *arguments):
        """Calls a function when nobody looks at the memory any more."""
        weakref.finalize(self, function, *arguments).atexit = False

    def to_host(self):
        """A copy in the CPU's memory, as an array of bytes."""
        try:
            return _driver().to_host(self.device, self.address, self.length)
        except cuda.CudaError as error:
            raise TritonModelException(
                "a tensor in the memory of GPU %d cannot be read: %s" % (self.device, error)
            ) from None


class Devices:
    """What this worker and others look at of each other's memory of GPUs. `release` is called with
    the number of what was lent to this one when it is dropped."""

    def __init__(self, release):
        # Whether the server knows GPUs, and whether this worker does too.
        self.offered = self.shared = False
        self._release = release
        # What no other worker has; that a tensor comes back to where it came from is known by it.
        self._name = int.from_bytes(os.urandom(8), "little") | 1
        self._numbers = itertools.count(_SHARED)
        # Own memory that others look at, and where in its allocation it starts, by number.
        self._own = {}
        # What is lent to this worker, by number.
        self._lent = weakref.WeakValueDictionary()

    def offer(self, offered):
        """The server says whether tensors may stay in the memory of GPUs."""
        self.offered = offered
        self.shared = offered and cuda.driver() is not None

    def keep_out(self, preferred):
        """Whether an answer must not come in the memory of a GPU, by its request's `PreferredMemory`."""
        if not self.offered:
            return False
        prefers_cpu = preferred is not None and preferred.preferred_memory_type == _PREFERS_CPU
        return prefers_cpu or not self.shared

    def describe(self, memory, taken):
        """How a frame tells where memory lies, or None if it cannot stay there. What must be
        forgotten if that frame is not sent is noted in `taken`."""
        if not self.shared or not memory.length:
            return None
        for lease, lent in list(self._lent.items()):
            offset = memory.address - lent.address
            if 0 <= offset and offset + memory.length <= lent.length:
                return DESCRIBED.pack(b"", memory.device, offset, 0, 0, lease)
        try:
            handle, offset = _driver().share(memory.device, memory.address)
        except cuda.CudaError as error:
            _warn("this memory of GPU %d cannot be shared (%s)" % (memory.device, error))
            return None
        number = next(self._numbers)
        self._own[number] = (memory, offset)
        taken.append(number)
        return DESCRIBED.pack(handle, memory.device, offset, self._name, number, 0)

    def forget(self, number):
        """Nobody else looks at this memory any more."""
        self._own.pop(number, None)

    def receive(self, described, length):
        """The memory that a frame tells of."""
        handle, device, offset, owner, number, lease = DESCRIBED.unpack(described)
        if owner == self._name:
            memory, start = self._own[number]
            self._release(lease)
            address = memory.address + offset - start
            return DeviceMemory(device, address, length, memory)
        try:
            base = _driver().open(device, handle)
        except cuda.CudaError as error:
            self._release(lease)
            raise TritonModelException(
                "a tensor in the memory of GPU %d cannot be opened: %s" % (device, error)
            ) from None
        memory = DeviceMemory(device, base + offset, length)
        memory.when_dropped(self._drop, device, base, lease)
        self._lent[lease] = memory
        return memory

    def _drop(self, device, base, lease):
        try:
            cuda.driver().close(device, base)
        finally:
            self._release(lease)


def _driver():
    driver = cuda.driver()
    if driver is None:
        raise cuda.CudaError("there is no driver")
    return driver


def use_gpu_of(args):
    """Makes the GPU that an instance has been given the one that frameworks use in this thread."""
    if args.get("model_instance_kind") == "GPU" and cuda.driver() is not None:
        cuda.driver().make_current(int(args["model_instance_device_id"]))


def preferred_gpu(preferred):
    """The GPU that a `PreferredMemory` names, if there is one."""
    if preferred.preferred_memory_type != _PREFERS_GPU:
        return None
    return preferred.preferred_device_id if cuda.driver() is not None else None


def copied(memory):
    """The bytes of memory that cannot stay where it is."""
    if memory.length:
        _warn("tensors of GPU %d are copied into the CPU's memory" % memory.device)
        return memory.to_host()
    return b""


def on_gpu(array, number):
    """A copy of an array in the memory of a GPU."""
    driver = _driver()
    address = driver.to_device(number, array)
    memory = DeviceMemory(number, address, array.nbytes)
    memory.when_dropped(driver.free, number, address)
    return memory


def on_cpu(tensor: Any) -> Any:
    """What has `__dlpack__`, or is a capsule: itself, or its copy in the CPU's memory."""
    where = device_of(tensor)
    if where[0] in _READABLE:
        return tensor
    _warn("tensors of DLPack device %s are copied into the CPU's memory" % (where,))
    if dlpack.is_capsule(tensor):
        tensor = _adopt(tensor)
    for method in ("cpu", "get"):  # torch, cupy
        if hasattr(tensor, method):
            return getattr(tensor, method)()
    raise TritonModelException(
        "a tensor of DLPack device %s cannot be copied into the CPU's memory: %s has neither "
        "cpu() nor get()" % (where, type(tensor).__name__)
    )


def device_of(tensor: Any) -> Any:
    """Type and number of the device that has the memory of what has `__dlpack__`, or is a capsule."""
    if dlpack.is_capsule(tensor):
        return dlpack.device_of(tensor)
    of_tensor = getattr(tensor, "__dlpack_device__", None)
    return (dlpack.CPU, 0) if of_tensor is None else tuple(int(part) for part in of_tensor())


def _adopt(capsule):
    """The tensor of a capsule, in whichever framework the model has loaded."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None:
        return torch.utils.dlpack.from_dlpack(capsule)
    if cupy is not None:
        return cupy.fromDlpack(capsule)
    raise TritonModelException(
        "a DLPack capsule over memory of device %s needs torch or cupy to be read"
        % (dlpack.device_of(capsule),)
    )


def _warn(what):
    """Says something once."""
    if what in _warned:
        return
    _warned.add(what)
    from triton_python_backend_utils import Logger

    Logger.log_warn(what)
