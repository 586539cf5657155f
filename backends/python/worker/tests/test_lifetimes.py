"""Who owns which memory for how long, which threads may call, and when an answer leaves."""

import struct
import time

import numpy as np
import pytest
from fake_server import (
    BF16, CALL, CALL_ANSWER, CANCEL, EXECUTE, EXECUTED, FAILED, LOG, RELEASE, RELEASE_ANSWERS,
    SPAN, WATCH, WATCHED, CANCEL_CALL, CONTROL, KEEP, METRIC, READY, RESPONSE, block, frame, note,
)
from test_worker import BIG, BLS, HEAD, IDENTITY, MODEL

KEEPS = MODEL + """
        if r.request_id() == "drop":
            self.kept = None
        else:
            a = pb_utils.InferenceRequest(model_name="next", inputs=[]).exec()
            self.kept = pb_utils.get_output_tensor_by_name(a, "OUT")
            %s
        return pb_utils.InferenceResponse([])
"""


@pytest.mark.parametrize("form", ["", "self.kept = self.kept.as_numpy()", "self.kept = self.kept.as_numpy()[5:].reshape(-1, 1)",
                                  "self.kept = pb_utils.Tensor.from_dlpack('X', self.kept.to_dlpack())"])
def test_an_answer_is_released_only_after_its_last_view(serve, form):
    server = serve(KEEPS % form)
    server.send(frame(EXECUTE, 1, block([("IN", np.zeros(1))])))
    _, call, _ = server.next()
    server.send(frame(CALL_ANSWER, call, block([("OUT", *server.place(4096, BIG))])))
    assert server.next()[0] == EXECUTED
    with pytest.raises(TimeoutError):
        released = server.next(0.2)
        pytest.fail("released while in use: %s" % (released,))
    server.execute(2, ("IN", np.zeros(1)), extras={"id": "drop"})
    assert server.next()[::2] == (RELEASE_ANSWERS, [call])


def test_the_answer_to_an_abandoned_call_is_released(serve):
    source = HEAD + """
import asyncio
class TritonPythonModel:
    async def execute(self, requests):
        try:
            if not requests[0].request_id():
                await asyncio.wait_for(pb_utils.InferenceRequest(model_name="n").async_exec(), 0.05)
            else:
                await asyncio.sleep(0.1)
        except asyncio.TimeoutError:
            pass
        return [pb_utils.InferenceResponse([])]
"""
    server = serve(source)
    server.send(frame(EXECUTE, 1, block()))
    _, call, _ = server.next()
    assert server.next()[:2] == (CANCEL_CALL, call)
    assert server.next()[0] == EXECUTED
    server.send(frame(CALL_ANSWER, call, block([("OUT", *server.place(4096, BIG))])))
    server.execute(2, extras={"id": "x"})
    assert server.next(1)[::2] == (RELEASE_ANSWERS, [call])


def test_chunks_of_a_failed_answer_are_free_again(serve):
    source = MODEL + """
        big = pb_utils.Tensor("OUT", np.zeros(3 << 20, np.uint8))
        return pb_utils.InferenceResponse([big, pb_utils.Tensor("O2", np.zeros(int(x[0]), np.uint8))])
"""
    server = serve(source)
    for i in range(10):
        assert "error" in server.execute(i, ("IN", np.array([64 << 20])))[1]
    assert "error" not in server.execute(11, ("IN", np.array([1])))[1]


def test_a_chunk_of_a_larger_class_serves_when_the_span_is_used_up(serve):
    server = serve(MODEL + "        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.zeros(int(x[0]), np.uint8))])\n")
    tensors, _ = server.execute(1, ("IN", np.array([15 << 20])))
    server.send(frame(RELEASE, body=struct.pack("<Q", tensors["OUT"].location)))
    assert "error" not in server.execute(2, ("IN", np.array([9 << 20])))[1]


def test_calls_from_several_threads(serve):
    source = HEAD + """
from concurrent.futures import ThreadPoolExecutor
class TritonPythonModel:
    def initialize(self, args): self.pool = ThreadPoolExecutor(4)
    def one(self, i):
        a = pb_utils.InferenceRequest(model_name="n", inputs=[pb_utils.Tensor("IN", np.array([i]))]).exec()
        return int(a.output_tensors()[0].as_numpy()[0])
    def execute(self, requests):
        got = list(self.pool.map(self.one, range(4)))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(got))])]
"""
    server = serve(source)
    for frame_id in range(1, 30):
        server.send(frame(EXECUTE, frame_id, block()))
        calls = [server.next() for _ in range(4)]
        for _, call, blocks in reversed(calls):
            server.send(frame(CALL_ANSWER, call, block([("OUT", blocks[0][0]["IN"].array() + 5)])))
            time.sleep(0.001)
        kind, _, blocks = server.next(3)
        assert kind == EXECUTED and blocks[0][0]["OUT"].array().tolist() == [5, 6, 7, 8]


def test_a_slow_model_does_not_hold_back_finished_answers(serve):
    server = serve(MODEL + "        __import__('time').sleep(0.05)\n        return pb_utils.InferenceResponse([])\n")
    server.execute(0, ("IN", np.zeros(1)))
    start = time.monotonic()
    server.send(*(frame(EXECUTE, i, block([("IN", np.zeros(1))])) for i in range(8)))
    server.next()
    first = time.monotonic() - start
    assert first < 0.2, "the first of eight answers came after %.0f ms" % (first * 1e3)


def test_log_lines_leave_at_once(serve):
    server = serve(MODEL + "        pb_utils.Logger.log_info('now')\n        __import__('time').sleep(0.6)\n        return pb_utils.InferenceResponse([])\n")
    server.send(frame(EXECUTE, 1, block([("IN", np.zeros(1))])))
    assert server.next(0.3)[0] == LOG


def test_a_cancelled_request_is_known_at_the_first_question(serve):
    source = MODEL + "        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.array([r.is_cancelled()]))])\n"
    server = serve(source)
    for number, cancelled in ((1, False), (2, True)):
        server.send(frame(EXECUTE, number, block([("IN", np.zeros(1))]), block([("IN", np.zeros(1))])))
        for index in (0, 1):
            assert server.next()[:2] == (WATCH, number)
            if cancelled and index == 1:
                server.send(note(CANCEL, number, index))
            server.send(note(WATCHED, number, index))
        answers = [tensors["OUT"].array()[0] for tensors, _ in server.next()[2]]
        assert answers == [False, cancelled]


def test_a_request_that_is_cancelled_while_it_runs(serve):
    source = MODEL + """
        while not r.is_cancelled():
            pass
        return pb_utils.InferenceResponse(error=pb_utils.TritonError("as you like", pb_utils.TritonError.CANCELLED))
"""
    server = serve(source)
    server.send(frame(EXECUTE, 1, block([("IN", np.zeros(1))])))
    assert server.next()[:2] == (WATCH, 1)
    server.send(note(WATCHED, 1, 0), note(CANCEL, 1, 0))
    assert server.next()[2][0][1]["error"]["code"] == "CANCELLED"


def test_metrics_are_kept_by_the_server(serve):
    source = HEAD + """
class TritonPythonModel:
    def initialize(self, args):
        family = pb_utils.MetricFamily(name="n", description="d", kind=pb_utils.MetricFamily.COUNTER)
        self.metric = family.Metric(labels={"a": "b"})
    def execute(self, requests):
        self.metric.increment(2)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([self.metric.value()]))])]
"""
    server = serve(source, init=False)
    for what in ("metric_family", "metric"):
        kind, ask, blocks = server.next()
        assert kind == CONTROL and blocks[0][1]["do"] == what
        server.send(frame(CALL_ANSWER, ask, block()))
    assert server.next()[0] == READY
    server.send(frame(EXECUTE, 1, block()))
    seen = [server.next(), server.next()]
    assert [f[0] for f in seen] == [METRIC, CONTROL]
    assert seen[0][2][0][1] == {"do": "increment", "id": blocks[0][1]["id"], "value": 2.0}
    server.send(frame(CALL_ANSWER, seen[1][1], block(extras={"parameters": {"value": 5.0}})))
    assert server.next()[2][0][0]["OUT"].array()[0] == 5


@pytest.mark.parametrize("form", ["r", "r.inputs()[0]", "x", "x[5:].reshape(-1, 1)", "memoryview(x)"])
def test_an_input_that_the_model_holds_on_to_stays_its_own(serve, form):
    source = MODEL + "        self.kept = %s\n        return pb_utils.InferenceResponse([])\n" % form
    server = serve(source)
    server.send(frame(EXECUTE, 1, block([("IN", *server.place(4096, BIG))])))
    kind, number, kept = server.next()
    assert (kind, number) == (KEEP, 1) and kept[1:] == [4096, BIG.nbytes]
    assert server.next()[0] == EXECUTED
    server.execute(2, ("IN", np.zeros(1)))
    assert server.next() == (RELEASE_ANSWERS, 0, kept[:1])


@pytest.mark.parametrize("answer", ["[]", "[pb_utils.Tensor('OUT', x)]", "[pb_utils.Tensor('OUT', x * 2)]"])
def test_an_input_that_it_does_not_hold_on_to_is_not_kept(serve, answer):
    server = serve(MODEL + "        return pb_utils.InferenceResponse(%s)\n" % answer)
    for number in (1, 2):
        server.execute(number, ("IN", *server.place(4096, BIG)))


def test_an_input_of_a_decoupled_model_is_its_own_from_the_start(serve):
    source = HEAD + """
class TritonPythonModel:
    def execute(self, requests):
        self.kept = requests[0].inputs()[0].as_numpy()
        requests[0].get_response_sender().send(flags=1)
"""
    server = serve(source, config={"model_transaction_policy": {"decoupled": True}})
    server.send(frame(EXECUTE, 1, block([("IN", *server.place(4096, BIG))])))
    assert [server.next()[0] for _ in range(3)] == [KEEP, RESPONSE, EXECUTED]


def test_what_a_model_writes_to_an_input_is_seen_by_nobody_else(serve):
    server = serve(MODEL + "        x += 1\n        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', x)])\n")
    for number in (1, 2, 3):
        place = server.place(4096, BIG * number)
        tensors, _ = server.execute(number, ("IN", *place))
        assert tensors["OUT"].location != 4096
        np.testing.assert_array_equal(tensors["OUT"].array(), BIG * number + 1)
        assert server.arena[4096 : 4096 + BIG.nbytes] == (BIG * number).tobytes()


def test_two_requests_of_a_batch_with_one_tensor(serve):
    source = HEAD + """
class TritonPythonModel:
    def execute(self, requests):
        arrays = [r.inputs()[0].as_numpy() for r in requests]
        arrays[0] += 1
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", x)]) for x in arrays]
"""
    server = serve(source)
    for number in (1, 2):
        place = server.place(4096, BIG)
        server.send(frame(EXECUTE, number, *(block([("IN", *place)]) for _ in range(2))))
        kind, _, answers = server.next()
        assert kind == EXECUTED
        for (tensors, _), more in zip(answers, (1, 0)):
            np.testing.assert_array_equal(tensors["OUT"].array(), BIG + more)


@pytest.mark.parametrize("writes", [False, True])
def test_a_call_that_is_answered_with_its_own_input(serve, writes):
    """Both are looked at in one memory, until one of them is written to."""
    source = MODEL + """
        a = pb_utils.InferenceRequest(model_name="next", inputs=[r.inputs()[0]]).exec()
        answer = a.output_tensors()[0].as_numpy()
        if r.request_id():
            answer += 1
        tensors = [pb_utils.Tensor("OUT", x), pb_utils.Tensor("ANSWER", answer[7:])]
        return pb_utils.InferenceResponse(tensors)
"""
    server = serve(source)
    extras = {"id": "writes"} if writes else {}
    server.send(frame(EXECUTE, 1, block([("IN", *server.place(4096, BIG))], extras)))
    _, call, asked = server.next()
    assert asked[0][0]["IN"].location == 4096
    server.send(frame(CALL_ANSWER, call, block([("OUT", BIG, 4096)])))
    kind, _, [(tensors, _)] = server.next()
    assert kind == EXECUTED and tensors["OUT"].location == 4096
    np.testing.assert_array_equal(tensors["ANSWER"].array(), BIG[7:] + writes)
    at = 4096 + 7 * BIG.itemsize
    assert (tensors["ANSWER"].location == at) is not writes
