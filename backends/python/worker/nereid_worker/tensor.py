"""`pb_utils.Tensor`."""

from typing import Any, List, Tuple

import numpy as np

from nereid_worker.datatypes import (
    BF16,
    NAME_OF,
    NUMPY_OF,
    STRING,
    number_of,
    unpack_strings,
)


class TritonModelException(Exception):
    """What the module raises where a model asks for something that cannot be done."""


class Tensor:
    """A named tensor.

    Tensors that the server sends are looked at in place: large ones lie in memory shared with it.
    `Tensor(name, array)` takes any numpy array; arrays of text become STRING tensors.
    """

    __slots__ = ("_name", "_number", "_shape", "_data", "_array", "_keep", "__weakref__")

    def __init__(self, name: str, array: np.ndarray):
        if not isinstance(array, np.ndarray):
            raise TritonModelException(
                "Tensor type and input type must be numpy.ndarray, got %s" % type(array).__name__
            )
        self._name = name
        self._number = number_of(array.dtype)
        self._shape = array.shape
        self._array = array
        self._data = None
        self._keep = None

    def name(self) -> str:
        """The tensor's name."""
        return self._name

    def as_numpy(self) -> np.ndarray:
        """The tensor as a numpy array; STRING tensors are object arrays of `bytes`.

        BF16 has no counterpart in numpy: use `to_dlpack()`.
        """
        array = self._array
        if array is None:
            number = self._number
            if number == STRING:
                array = unpack_strings(self._data)
                array = array.reshape(self._shape)
            elif number == BF16:
                raise TritonModelException("Tensor is stored in BF16, which numpy does not have")
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
        return True

    def to_dlpack(self) -> Any:
        """The tensor as a DLPack capsule, without a copy."""
        return self.__dlpack__()

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        if self._number == STRING:
            raise TritonModelException("DLPack does not support string tensors.")
        array = self.as_numpy()
        if array.dtype == np.bool_:
            # DLPack gained booleans late; Triton hands them over as bytes.
            array = array.view(np.uint8)
        return _Exporter(array).__dlpack__()

    def __dlpack_device__(self) -> Tuple[int, int]:
        return (1, 0)

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> "Tensor":
        """A tensor over the memory of a DLPack capsule or of anything with `__dlpack__`.

        The memory must be C-contiguous and on the CPU.
        """
        if hasattr(tensor, "__dlpack__"):
            array = _from_dlpack_object(tensor)
        else:
            array = np.from_dlpack(_Capsule(tensor))
        if not array.flags.c_contiguous:
            raise TritonModelException(
                "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored "
                "in C-Order are supported."
            )
        return Tensor(name, array)


def _from_dlpack_object(tensor):
    if isinstance(tensor, np.ndarray):
        return tensor
    device = tensor.__dlpack_device__()
    if device[0] != 1:
        _warn_of_copy(device)
        tensor = tensor.cpu()
    try:
        return np.from_dlpack(tensor)
    except (BufferError, RuntimeError, TypeError):
        # Booleans of older frameworks, and tensors that require gradients.
        if hasattr(tensor, "detach"):
            return tensor.detach().numpy()
        raise


_warned = set()


def _warn_of_copy(device):
    """Says once for each device that its tensors are copied."""
    if device in _warned:
        return
    _warned.add(device)
    from triton_python_backend_utils import Logger

    Logger.log_warn("tensors of DLPack device %s are copied into the CPU's memory" % (device,))


class _Capsule:
    """Lets numpy take a bare capsule."""

    def __init__(self, capsule):
        self._capsule = capsule

    def __dlpack__(self, **_):
        return self._capsule

    def __dlpack_device__(self):
        return (1, 0)


class _Exporter:
    """Exports an array as a capsule, even one that numpy holds to be read-only."""

    def __init__(self, array):
        self._array = array if array.flags.writeable else array.copy()

    def __dlpack__(self):
        return self._array.__dlpack__()


def received(name, number, shape, data):
    """A tensor that came in a frame: `data` is its memory."""
    tensor = Tensor.__new__(Tensor)
    tensor._name = name
    tensor._number = number
    tensor._shape = shape
    tensor._data = data
    tensor._array = None
    tensor._keep = None
    return tensor
