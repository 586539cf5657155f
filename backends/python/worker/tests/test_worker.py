"""The worker over real pipes: frames in, frames out."""

import json
import os
import struct
import subprocess
import threading

import numpy as np
import pytest
from fake_server import (
    CALL, CALL_ANSWER, EXECUTE, EXECUTED, FAILED, FINALIZE, FINALIZED, LOG, PYTHON, RELEASE,
    RELEASE_ANSWERS, RESPONSE, SPAN, STRING, CODES, block, frame, strings,
)

HEAD = "import numpy as np\nimport triton_python_backend_utils as pb_utils\n"
MODEL = HEAD + """
class TritonPythonModel:
    def execute(self, requests):
        return [self.one(r) for r in requests]
    def one(self, r):
        x = pb_utils.get_input_tensor_by_name(r, "IN").as_numpy()
"""
IDENTITY = MODEL + "        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', x)])\n"
BLS = MODEL + """
        a = pb_utils.InferenceRequest(model_name="next", requested_output_names=["OUT"],
            inputs=[pb_utils.Tensor("IN", x)]).exec()
        if a.has_error(): raise pb_utils.TritonModelException(a.error().message())
        return pb_utils.InferenceResponse([pb_utils.get_output_tensor_by_name(a, "OUT")])
"""
BIG = np.arange(40_000, dtype=np.float32)


@pytest.mark.parametrize("dtype", list(CODES), ids=str)
@pytest.mark.parametrize("shape", [(), (0, 4), (1,), (3, 5)], ids=str)
def test_every_datatype_and_shape(serve, dtype, shape):
    value = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    out = serve(IDENTITY).execute(5, ("IN", value))[0]["OUT"]
    assert (out.code, out.shape, out.raw) == (CODES[dtype], shape, value.tobytes())


def test_strings(serve):
    source = MODEL + (
        "        assert x.dtype == object and x.shape == (2, 1) and type(x[0, 0]) is bytes\n"
        "        y = np.array(['grün', x[1, 0]], dtype=object)\n"
        "        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', y)])\n"
    )
    out = serve(source).execute(1, ("IN", (STRING, (2, 1), strings(b"", b"a\0b"))))[0]["OUT"]
    assert (out.code, out.shape) == (STRING, (2,))
    assert out.raw == strings("grün".encode(), b"a\0b")


def test_the_model_may_write_to_inputs(serve):
    source = MODEL + "        x += 1\n        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', x)])\n"
    server = serve(source)
    small, _ = server.execute(1, ("IN", np.zeros(4, np.int32)))
    assert small["OUT"].array().tolist() == [1] * 4
    large, _ = server.execute(2, ("IN", *server.place(4096, BIG)))
    assert (large["OUT"].array() == BIG + 1).all()


def test_a_large_input_passed_on_is_not_copied(serve):
    server = serve(IDENTITY)
    blocks = server.execute(1, ("IN", *server.place(8192, BIG)))
    assert blocks[0]["OUT"].location == 8192


def test_large_outputs_use_the_span_again_when_released(serve):
    server = serve(MODEL + "        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', x * 2)])\n")
    argument = ("IN", *server.place(4096, BIG))
    places = [server.execute(i, argument)[0]["OUT"] for i in range(2)]
    first, second = (out.location for out in places)
    assert first != second and all(SPAN[0] <= p < sum(SPAN) and p % 64 == 0 for p in (first, second))
    assert (places[0].array() == BIG * 2).all()
    server.send(frame(RELEASE, body=struct.pack("<Q", first)))
    assert server.execute(3, argument)[0]["OUT"].location == first


def test_a_full_span_is_an_error_of_that_response(serve):
    server = serve(MODEL + "        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.zeros(int(x[0]), np.uint8))])\n")
    small, huge = (block([("IN", np.array([n]))]) for n in (5, 64 << 20))
    server.send(frame(EXECUTE, 1, small, huge))
    kind, _, blocks = server.next()
    assert kind == EXECUTED and blocks[0][0]["OUT"].shape == (5,)
    assert "error" in blocks[1][1]


def test_frames_of_one_read_are_answered_in_order(serve):
    server = serve(IDENTITY)
    server.send(*(frame(EXECUTE, i, block([("IN", np.array([i]))])) for i in range(20)))
    for i in range(20):
        kind, answered, blocks = server.next()
        assert (kind, answered, blocks[0][0]["OUT"].array()[0]) == (EXECUTED, i, i)


def test_a_frame_larger_than_the_buffer(serve):
    count = 60
    one = block([("IN", np.zeros(60_000, np.uint8))])
    server = serve(IDENTITY)
    sending = threading.Thread(target=server.send, args=(frame(EXECUTE, 1, *[one] * count),))
    sending.start()
    assert len(server.next()[2]) == count
    sending.join()


def test_extras(serve):
    source = MODEL + """
        said = [r.request_id(), r.correlation_id(), r.flags(), r.timeout(), sorted(r.requested_output_names()), r.parameters()]
        return pb_utils.InferenceResponse([], parameters={"said": __import__("json").dumps(said)})
"""
    extras = {"id": "q", "correlation_id": "s", "flags": 1, "timeout": 7, "outputs": ["A"], "parameters": {"k": 1}}
    _, answered = serve(source).execute(1, ("IN", np.zeros(1)), extras=extras)
    said = json.loads(answered["parameters"]["said"])
    assert said[:5] == ["q", "s", 1, 7, ["A"]] and json.loads(said[5]) == {"k": 1}


@pytest.mark.parametrize(
    "body, text",
    [
        ("raise ValueError('no such luck')", "no such luck"),
        ("return None", "Expected a list"),
        ("return []", "Number of InferenceResponse objects do not match"),
        ("return [None for _ in requests]", "Expected an 'InferenceResponse'"),
    ],
)
def test_a_wrong_execute_fails_its_batch_alone(serve, body, text):
    source = HEAD + "class TritonPythonModel:\n    def execute(self, requests):\n        %s\n" % body
    server = serve(source)
    for i in (1, 2):
        server.send(frame(EXECUTE, i, block()))
        kind, answered, blocks = server.next()
        assert (kind, answered) == (FAILED, i)
        assert text in blocks[0][1]["error"]["message"]


def test_an_error_response_keeps_its_code(serve):
    server = serve(MODEL + "        return pb_utils.InferenceResponse(error=pb_utils.TritonError('gone', pb_utils.TritonError.NOT_FOUND))\n")
    _, extras = server.execute(1, ("IN", np.zeros(1)))
    assert extras == {"error": {"code": "NOT_FOUND", "message": "gone"}}


@pytest.mark.parametrize(
    "source, text",
    [
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "TritonPythonModel"),
        ("class TritonPythonModel:\n    pass", "execute"),
        ("class TritonPythonModel:\n    def execute(self, r): pass\n    def initialize(self, a): 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_model_that_cannot_load(serve, source, text):
    kind, _, blocks = serve(source, init=False).next()
    assert kind == FAILED and text in blocks[0][1]["error"]["message"]


def test_siblings_finalize_and_the_end(serve):
    source = HEAD + "import sibling\nclass TritonPythonModel:\n    def execute(self, requests): pass\n    def finalize(self): pb_utils.Logger.log_warn(sibling.WORD)\n"
    server = serve(source, extra_files={"sibling.py": "WORD = 'bye'"})
    server.send(frame(FINALIZE))
    kind, _, blocks = server.next()
    assert (kind, blocks[0][1]) == (LOG, {"level": "WARNING", "message": "bye"})
    assert server.next()[0] == FINALIZED
    assert server.process.wait(5) == 0


def test_a_call_by_offset_and_what_comes_meanwhile(serve):
    server = serve(BLS)
    server.send(frame(EXECUTE, 1, block([("IN", *server.place(4096, BIG))])))
    kind, call, blocks = server.next()
    tensors, extras = blocks[0]
    assert kind == CALL and tensors["IN"].location == 4096
    assert (extras["model_name"], extras["model_version"], extras["outputs"], extras["request"]) == ("next", -1, ["OUT"], 1)
    server.send(frame(EXECUTE, 2, block([("IN", np.zeros(1))])))
    server.send(frame(CALL_ANSWER, call, block([("OUT", *server.place(1 << 20, BIG))])))
    seen = [frame for frame in (server.next() for _ in range(3)) if frame[0] != RELEASE_ANSWERS]
    done = [blocks for kind, i, blocks in seen if (kind, i) == (EXECUTED, 1)]
    assert done[0][0][0]["OUT"].location == 1 << 20
    second = [i for kind, i, _ in seen if kind == CALL]
    server.send(frame(CALL_ANSWER, second[0], block(extras={"error": {"code": "INTERNAL", "message": "down"}})))
    while True:
        kind, answered, blocks = server.next()
        if kind == FAILED:
            break
    assert answered == 2 and "down" in blocks[0][1]["error"]["message"]


def test_async_calls_are_in_flight_together(serve):
    source = HEAD + """
import asyncio
class TritonPythonModel:
    async def execute(self, requests):
        async def one(i):
            a = await pb_utils.InferenceRequest(model_name="n%d" % i, inputs=[pb_utils.Tensor("IN", np.array([i]))]).async_exec()
            return a.output_tensors()[0].as_numpy()
        got = await asyncio.gather(*(one(i) for i in range(3)))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.concatenate(got))])]
"""
    server = serve(source)
    for frame_id in (1, 2):
        server.send(frame(EXECUTE, frame_id, block()))
        calls = [server.next() for _ in range(3)]
        for _, call, blocks in reversed(calls):
            server.send(frame(CALL_ANSWER, call, block([("OUT", blocks[0][0]["IN"].array() * 10)])))
        kind, _, blocks = server.next()
        assert kind == EXECUTED and blocks[0][0]["OUT"].array().tolist() == [0, 10, 20]


def test_calls_only_while_executing(serve):
    source = HEAD + "class TritonPythonModel:\n    def initialize(self, args): pb_utils.InferenceRequest(model_name='n').exec()\n    def execute(self, r): pass\n"
    kind, _, blocks = serve(source, init=False).next()
    assert kind == FAILED and "execute" in blocks[0][1]["error"]["message"]


def test_decoupled(serve):
    source = HEAD + """
class TritonPythonModel:
    def execute(self, requests):
        for r in requests:
            s = r.get_response_sender()
            s.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([7]))]))
            s.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
    server = serve(source, config={"model_transaction_policy": {"decoupled": True}})
    server.send(frame(EXECUTE, 9, block()))
    (k1, i1, b1), (k2, i2, b2), (k3, i3, _) = (server.next() for _ in range(3))
    assert (k1, i1, k2, i2, k3, i3) == (RESPONSE, 9, RESPONSE, 9, EXECUTED, 9)
    assert b1[0][1] == {"request": 0, "last": False} and b1[0][0]["OUT"].array()[0] == 7
    assert b2[0][1] == {"request": 0, "last": True, "nothing": True}


def test_the_worker_ends_with_its_server(serve):
    server = serve(IDENTITY)
    os.close(server.requests)
    server.requests = os.open("/dev/null", os.O_WRONLY)
    assert server.process.wait(5) == 0
