"""Tensors through DLPack: every datatype, BF16 among them, odd shapes, and other devices."""

import subprocess

import numpy as np
import pytest
from fake_server import BF16, CODES, EXECUTE, EXECUTED, LOG, PYTHON, block, frame
from test_worker import BIG, MODEL

SHARES = """
        t = pb_utils.get_input_tensor_by_name(r, "IN")
        again = pb_utils.Tensor.from_dlpack("OUT", t.to_dlpack())
        also = pb_utils.Tensor.from_dlpack("ALSO", t)
        assert t.__dlpack_device__() == (1, 0)
        return pb_utils.InferenceResponse([again, also])
"""
# What does not need `x`, which BF16 does not have.
MODEL_WITHOUT_NUMPY = MODEL.replace('.as_numpy()', '')
TWO_BF16 = (BF16, (2,), b"\x80\x3f\0\x40")  # 1.0 and 2.0


def test_every_datatype_and_shape(serve):
    server = serve(MODEL + SHARES)
    for dtype in set(CODES) - {np.dtype(bool)}:
        for shape in ((), (0, 4), (1,), (3, 5)):
            value = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
            tensors, _ = server.execute(1, ("IN", value))
            for out in (tensors["OUT"], tensors["ALSO"]):
                assert (out.code, out.shape, out.raw) == (CODES[dtype], shape, value.tobytes())


def test_large_tensors_are_not_copied(serve):
    server = serve(MODEL + SHARES)
    assert server.execute(1, ("IN", *server.place(4096, BIG)))[0]["OUT"].location == 4096
    server = serve(MODEL_WITHOUT_NUMPY + SHARES)
    large = (BF16, (BIG.nbytes // 2,), BIG.tobytes())
    _, place = server.place(8192, BIG)
    assert server.execute(1, ("IN", large, place))[0]["OUT"].location == 8192


def test_bf16_is_passed_on(serve):
    server = serve(MODEL_WITHOUT_NUMPY + SHARES)
    for shape, raw in (((2,), TWO_BF16[2]), ((), b"\x80\x3f"), ((0, 3), b"")):
        tensors, _ = server.execute(1, ("IN", (BF16, shape, raw)))
        for out in (tensors["OUT"], tensors["ALSO"]):
            assert (out.code, out.shape, out.raw) == (BF16, shape, raw)


def test_bf16_is_not_for_numpy(serve):
    server = serve(MODEL + "        return pb_utils.InferenceResponse([])\n")
    with pytest.raises(AssertionError, match="BF16"):
        server.execute(1, ("IN", TWO_BF16))


def test_booleans(serve):
    value = np.array([True, False])
    tensors, _ = serve(MODEL + SHARES).execute(1, ("IN", value))
    for out in (tensors["OUT"], tensors["ALSO"]):
        assert (out.code, out.raw) == (CODES[value.dtype], b"\1\0")


@pytest.mark.parametrize(
    "given, said",
    [
        ("x.reshape(2, 3).T", "DLPack tensor is not contiguous"),
        ("x[::2]", "DLPack tensor is not contiguous"),
        ("'text'", "Provided tensor is not supported"),
        ("None", "Provided tensor is not supported"),
        ("used", "Provided tensor is not supported"),
        ("np.complex64([1])", "NumPy dtype is not supported"),
        ("pb_utils.Tensor('S', np.array([b'a'], object))", "support for string tensors"),
    ],
)
def test_what_cannot_be_taken(serve, given, said):
    source = MODEL + (
        "        used = pb_utils.Tensor('X', x).to_dlpack()\n"
        "        pb_utils.Tensor.from_dlpack('X', used)\n"
        "        t = pb_utils.Tensor.from_dlpack('OUT', %s)\n"
        "        return pb_utils.InferenceResponse([t])\n" % given
    )
    with pytest.raises(AssertionError, match=said):
        serve(source).execute(1, ("IN", np.arange(6.0)))


def test_memory_lives_as_long_as_anybody_looks_at_it(serve):
    source = MODEL + (
        "        def made():\n"
        "            return pb_utils.Tensor('X', np.arange(100000.0)).to_dlpack()\n"
        "        capsules = [made() for _ in range(8)]\n"
        "        read = [pb_utils.Tensor.from_dlpack('OUT', c) for c in capsules]\n"
        "        del capsules\n"
        "        assert all((t.as_numpy() == np.arange(100000.0)).all() for t in read)\n"
        "        return pb_utils.InferenceResponse(read[:1])\n"
    )
    out = serve(source).execute(1, ("IN", np.zeros(1)))[0]["OUT"]
    assert (out.array() == np.arange(100000.0)).all()


@pytest.fixture
def torch():
    if subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode:
        pytest.skip("the worker's Python has no torch")


def test_torch(serve, torch):
    source = MODEL + """
        import torch
        from torch.utils.dlpack import from_dlpack, to_dlpack
        t = from_dlpack(pb_utils.get_input_tensor_by_name(r, "IN").to_dlpack())
        t.requires_grad_(True)
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUT", t * 2),
            pb_utils.Tensor.from_dlpack("C", to_dlpack(t.detach())),
            pb_utils.Tensor.from_dlpack("B", t > 2)])
"""
    tensors, _ = serve(source).execute(1, ("IN", BIG[:6]))
    assert tensors["OUT"].array().tolist() == [0, 2, 4, 6, 8, 10]
    assert (tensors["C"].array() == BIG[:6]).all()
    assert tensors["B"].array().tolist() == [False] * 3 + [True] * 3 and tensors["B"].code == 1


def test_torch_with_bf16(serve, torch):
    source = MODEL_WITHOUT_NUMPY + """
        import torch
        from torch.utils.dlpack import from_dlpack, to_dlpack
        t = from_dlpack(x.to_dlpack())
        assert t.dtype == torch.bfloat16 and t.tolist() == [1, 2]
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUT", t * 2),
            pb_utils.Tensor.from_dlpack("C", to_dlpack(t)), pb_utils.Tensor("F", t.float().numpy())])
"""
    tensors, _ = serve(source).execute(1, ("IN", TWO_BF16))
    assert (tensors["OUT"].code, tensors["OUT"].raw) == (BF16, b"\0\x40\x80\x40")
    assert (tensors["C"].code, tensors["C"].raw) == (BF16, TWO_BF16[2])
    assert tensors["F"].array().tolist() == [1, 2]


# A tensor that says that it lies on a GPU, as torch's and cupy's do.
ON_GPU = """
class OnGpu:
    def __init__(self, array, method):
        setattr(self, method, lambda: array)
    def __dlpack_device__(self):
        return (2, 0)
    def __dlpack__(self, **_):
        raise BufferError("this is memory of a GPU")
"""


@pytest.mark.parametrize("method", ["cpu", "get"])
def test_a_tensor_of_a_gpu_is_copied_and_a_warning_says_so(serve, method):
    source = ON_GPU + MODEL + (
        "        t = pb_utils.Tensor.from_dlpack('OUT', OnGpu(x * 2, %r))\n"
        "        assert t.is_cpu()\n"
        "        return pb_utils.InferenceResponse([t])\n" % method
    )
    server = serve(source)
    for number in (1, 2):
        server.send(frame(EXECUTE, number, block([("IN", np.arange(3))])))
        kinds = []
        while not kinds or kinds[-1][0] != EXECUTED:
            kinds.append(server.next())
        _, _, [(tensors, _)] = kinds[-1]
        assert tensors["OUT"].array().tolist() == [0, 2, 4]
        warnings = [extras["message"] for kind, _, blocks in kinds[:-1] for _, extras in blocks]
        assert len(warnings) == (1 if number == 1 else 0)
        assert all("copied into the CPU's memory" in one for one in warnings)


# A capsule that says that its memory lies on a GPU.
CAPSULE_OF_GPU = """
import ctypes
from nereid_worker import dlpack
def of_gpu(capsule):
    address = dlpack._get_pointer(capsule, b"dltensor") + 8
    ctypes.c_int32.from_address(address).value = 2
    return capsule
"""


def test_a_capsule_of_a_gpu_is_not_read_as_memory_of_the_cpu(serve):
    source = CAPSULE_OF_GPU + MODEL + (
        "        t = pb_utils.Tensor.from_dlpack('OUT', of_gpu(pb_utils.Tensor('X', x).to_dlpack()))\n"
        "        return pb_utils.InferenceResponse([t])\n"
    )
    server = serve(source)
    server.send(frame(EXECUTE, 1, block([("IN", np.arange(3))])))
    assert server.next()[0] == LOG
    _, _, [(_, extras)] = server.next()
    message = extras["error"]["message"]
    assert "in the memory of GPU 0 cannot be read: there is no driver" in message
