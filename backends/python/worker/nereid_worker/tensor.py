"""`pb_utils.Tensor`."""

from typing import Any, List, Tuple

import numpy as np

from nereid_worker import capsules, device, dlpack
from nereid_worker.datatypes import (
    BF16,
    NAME_OF,
    NUMPY_OF,
    STRING,
    number_of,
    pack_strings,
    unpack_strings,
)
from nereid_worker.device import DeviceMemory
from nereid_worker.errors import TritonModelException
from nereid_worker.texts import text


class Tensor:
    """A named tensor.

    Tensors that the server sends are looked at in place: large ones lie in memory shared with it.
    `Tensor(name, array)` takes any numpy array; arrays of text become STRING tensors. Those made of a
    DLPack tensor of one of NVIDIA's GPUs stay in its memory.
    """

    __slots__ = ("_name", "_number", "_shape", "_data", "_array", "__weakref__")

    def __init__(self, name: str, array: np.ndarray):
        if not isinstance(array, np.ndarray):
            raise TypeError("a tensor is made of a numpy.ndarray, got %s" % type(array).__name__)
        self._name = name if isinstance(name, str) else text(name, "a tensor's name")
        self._number = number_of(array.dtype)
        self._shape = array.shape
        self._array = array
        # The model may write to an array of strings before they are sent; numbers are sent as they
        # are then.
        self._data = pack_strings(array) if self._number == STRING else None

    def name(self) -> str:
        """The tensor's name."""
        return self._name

    def as_numpy(self) -> np.ndarray:
        """The tensor as a numpy array; STRING tensors are object arrays of `bytes`.

        BF16 has no counterpart in numpy, and numpy cannot see the memory of a GPU: use `to_dlpack()`.
        """
        array = self._array
        if array is None:
            number = self._number
            if type(self._data) is DeviceMemory:
                raise TritonModelException(
                    "Tensor is stored in GPU and cannot be converted to NumPy."
                )
            if number == STRING:
                array = unpack_strings(self._data)
                array = array.reshape(self._shape)
            elif number == BF16:
                raise TritonModelException(
                    "Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack() and "
                    "from_dlpack() instead."
                )
            else:
                array = np.ndarray(self._shape, NUMPY_OF[number], self._data)
            self._array = array
        return array

    def shape(self) -> List[int]:
        """The tensor's shape."""
        return list(self._shape)

    def triton_dtype(self) -> str:
        """The datatype as a configuration spells it, e.g. `TYPE_FP32`."""
        return NAME_OF[self._number]

    def is_cpu(self) -> bool:
        """Whether the tensor lies in the CPU's memory."""
        return type(self._data) is not DeviceMemory

    def to_dlpack(self) -> Any:
        """The tensor as a DLPack capsule, without a copy."""
        return self.__dlpack__()

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        if self._number == STRING:
            raise TritonModelException("DLPack does not have support for string tensors.")
        if not self.is_cpu():
            return capsules.make(self._data, self._number, self._shape)
        if self._number == BF16:
            return dlpack.capsule_of(np.ndarray(self._shape, np.uint16, self._data), BF16)
        return dlpack.capsule_of(self.as_numpy(), self._number)

    def __dlpack_device__(self) -> Tuple[int, int]:
        return (dlpack.CPU, 0) if self.is_cpu() else (device.CUDA, self._data.device)

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> "Tensor":
        """A tensor over the memory of a DLPack capsule or of anything with `__dlpack__`.

        The memory must be C-contiguous. That of a device that is neither the CPU nor one of NVIDIA's
        GPUs is copied into the CPU's memory.
        """
        try:
            found = dlpack.array_of_plain(tensor)
            if found is None:
                _refuse_unless_dlpack(tensor)
                there = _on_gpu(tensor)
                if there is not None:
                    return received(name, *there)
                found = dlpack.array_of(device.on_cpu(tensor))
            array, number = found
        except dlpack.NotContiguous:
            raise TritonModelException(
                "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored "
                "in C-Order are supported."
            ) from None
        if number == BF16:
            return received(name, BF16, array.shape, array.reshape(-1).view(np.uint8).data)
        return Tensor(name, array)


def _refuse_unless_dlpack(tensor):
    if not dlpack.is_capsule(tensor) and not hasattr(tensor, "__dlpack__"):
        raise TritonModelException(
            "Provided tensor is not supported. Tensor must be a DLPack capsule or have "
            "`__dlpack__` and `__dlpack_device__` attributes"
        )


def _on_gpu(tensor):
    """Datatype's number, shape and memory of a tensor of one of NVIDIA's GPUs; else None."""
    if device.device_of(tensor)[0] != device.CUDA:
        return None
    if not dlpack.is_capsule(tensor):
        try:
            tensor = dlpack.exported(tensor)
        except (BufferError, RuntimeError, TypeError):
            return None  # Older versions of torch do not export booleans.
    memory, number, shape = capsules.take(tensor)
    return number, shape, memory


def moved(tensor, number):
    """A tensor in the memory of a GPU: itself, or its copy there. Strings stay where they are."""
    data = tensor._data
    if tensor._number == STRING or type(data) is DeviceMemory or not len(data):
        return tensor
    there = device.on_gpu(np.frombuffer(data, np.uint8), number)
    return received(tensor._name, tensor._number, tensor._shape, there)


def received(name, number, shape, data):
    """A tensor that came in a frame: `data` is its memory."""
    tensor = Tensor.__new__(Tensor)
    tensor._name = name
    tensor._number = number
    tensor._shape = shape
    tensor._data = data
    tensor._array = None
    return tensor
