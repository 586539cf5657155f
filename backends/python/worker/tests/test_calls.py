"""Calls of decoupled models, and calls that lead back to their own instance."""

import numpy as np
import pytest
from fake_server import (
    CALL, CALL_ANSWER, CANCEL_CALL, EXECUTE, EXECUTED, FAILED, NESTED, RELEASE_ANSWERS, RESPONSE,
    block, frame,
)
from test_worker import BIG, HEAD, MODEL

STREAM = MODEL + """
        answers = pb_utils.InferenceRequest(model_name="n", inputs=[pb_utils.Tensor("IN", x)]).exec(decoupled=True)
        %s
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(got))])
"""
SUMS = STREAM % "got = [int(a.output_tensors()[0].as_numpy().sum()) if a.output_tensors() else -1 for a in answers]"


def part(call, last, lease, *tensors, **extras):
    return frame(CALL_ANSWER, call, block(tensors, {"last": last, "lease": lease, **extras}))


def asked(server):
    server.send(frame(EXECUTE, 1, block([("IN", np.zeros(1))])))
    kind, call, blocks = server.next()
    assert kind == CALL and blocks[0][1]["decoupled"] is True
    return call


def test_responses_come_one_by_one(serve):
    server = serve(SUMS)
    call = asked(server)
    first, second = 1 << 63 | 1, 1 << 63 | 2
    server.send(part(call, False, first, ("OUT", *server.place(4096, BIG))), part(call, False, second, ("OUT", np.arange(3))))
    server.send(part(call, True, 1 << 63 | 3))
    seen = [server.next() for _ in range(2)]
    assert [f[2] for f in seen if f[0] == RELEASE_ANSWERS] == [[first]]
    (out,) = [f[2][0][0]["OUT"].array().tolist() for f in seen if f[0] == EXECUTED]
    assert out == [int(BIG.sum()), 3, -1]


def test_an_error_ends_them(serve):
    server = serve(STREAM % "got = [a.error().code() for a in answers]")
    call = asked(server)
    server.send(part(call, True, 1 << 63 | 1, error={"code": "NOT_FOUND", "message": "no"}))
    assert server.next()[2][0][0]["OUT"].array().tolist() == [2]


@pytest.mark.parametrize("how", ["answers.cancel(); answers.cancel()", "del answers"])
def test_who_stops_listening_cancels(serve, how):
    server = serve(STREAM % ("got = [int(next(answers).output_tensors()[0].as_numpy()[0])]\n        " + how))
    call = asked(server)
    server.send(part(call, False, 1 << 63 | 1, ("OUT", np.arange(3))))
    seen = [server.next(), server.next()]
    assert (CANCEL_CALL, call) in [f[:2] for f in seen]


def test_an_async_model_listens_to_several_at_once(serve):
    source = HEAD + """
import asyncio
class TritonPythonModel:
    async def execute(self, requests):
        async def one(i):
            answers = await pb_utils.InferenceRequest(model_name="n", inputs=[]).async_exec(decoupled=True)
            return [int(a.output_tensors()[0].as_numpy()[0]) async for a in answers]
        got = await asyncio.gather(one(0), one(1))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(got))])]
"""
    server = serve(source)
    server.send(frame(EXECUTE, 1, block()))
    calls = [server.next()[1], server.next()[1]]
    for n in range(2):
        for call in calls:
            server.send(part(call, n == 1, 1 << 63 | n, ("OUT", np.array([10 * call + n]))))
    assert server.next()[2][0][0]["OUT"].array().tolist() == [[10, 11], [20, 21]]


@pytest.mark.parametrize("kind", ["", "async "])
def test_a_batch_that_came_of_its_own_call_is_run_while_it_waits(serve, kind):
    call = "await request.async_exec()" if kind else "request.exec()"
    source = HEAD + """
class TritonPythonModel:
    %sdef execute(self, requests):
        x = pb_utils.get_input_tensor_by_name(requests[0], "IN").as_numpy()
        if x[0] > 0:
            request = pb_utils.InferenceRequest(model_name="m", inputs=[pb_utils.Tensor("IN", x - 1)])
            x = x + pb_utils.get_output_tensor_by_name(%s, "OUT").as_numpy()
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", x)])]
""" % (kind, call)
    server = serve(source)
    server.send(frame(EXECUTE, 1, block([("IN", np.array([3]))])))
    calls = []
    for depth in range(2, 5):
        found, call, blocks = server.next()
        assert found == CALL and blocks[0][1]["request"] == depth - 1
        calls.append(call)
        server.send(frame(NESTED, depth, block([("IN", blocks[0][0]["IN"].array())])))
    for depth in (4, 3, 2):
        found, number, blocks = server.next()
        assert (found, number) == (EXECUTED, depth)
        server.send(frame(CALL_ANSWER, calls.pop(), block([("OUT", blocks[0][0]["OUT"].array())])))
    found, number, blocks = server.next()
    assert (found, number) == (EXECUTED, 1) and blocks[0][0]["OUT"].array().tolist() == [6]


def test_a_background_coroutine_of_a_decoupled_model_lets_the_next_batch_in(serve):
    source = HEAD + """
import asyncio
class TritonPythonModel:
    def initialize(self, args): self.second = None
    async def execute(self, requests):
        if self.second is None:
            self.second = asyncio.get_running_loop().create_future()
            await self.second
        else:
            self.second.set_result(None)
        requests[0].get_response_sender().send(pb_utils.InferenceResponse([]), 1)
"""
    server = serve(source, config={"model_transaction_policy": {"decoupled": True}})
    server.send(frame(EXECUTE, 1, block()), frame(EXECUTE, 2, block()))
    seen = [server.next()[:2] for _ in range(4)]
    assert sorted(seen) == [(EXECUTED, 1), (EXECUTED, 2), (RESPONSE, 1), (RESPONSE, 2)]


def test_a_sender_that_is_dropped_ends_its_request(serve):
    source = HEAD + "class TritonPythonModel:\n    def execute(self, requests):\n        requests[0].get_response_sender()\n"
    server = serve(source, config={"model_transaction_policy": {"decoupled": True}})
    server.send(frame(EXECUTE, 1, block()))
    seen = {kind: blocks for kind, _, blocks in (server.next(), server.next())}
    assert "without a final response" in seen[RESPONSE][0][1]["error"]["message"]


def test_executes_run_in_several_threads(serve):
    source = HEAD + """
import threading
class TritonPythonModel:
    def initialize(self, args): self.barrier = threading.Barrier(3)
    def execute(self, requests):
        self.barrier.wait(10)
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""
    server = serve(source, init_extras={"execute_threads": 3})
    server.send(*(frame(EXECUTE, i, block()) for i in range(6)))
    assert sorted(server.next()[:2] for _ in range(6)) == [(EXECUTED, i) for i in range(6)]
    server.send(frame(4))
    assert server.process.wait(5) == 0


ELSEWHERE = """
        found = []
        answers = await request().async_exec(decoupled=True)
        thread = threading.Thread(target=lambda: found.extend(answers))
        thread.start()
        thread.join()
        answer = found[0]
"""
HERE = """
        answer = request().exec()
"""
LATER = """
        answer = await request().async_exec()
"""


@pytest.mark.parametrize("way", [LATER, HERE, ELSEWHERE])
def test_coroutines_that_go_on_together_hold_nothing_back(serve, way):
    """Their calls share a write, but not if one of them waits where no other one can go on."""
    source = HEAD + """
import threading
def request(): return pb_utils.InferenceRequest(model_name="n", inputs=[])
class TritonPythonModel:
    async def execute(self, requests):
        first = request().async_exec()
%s
        await first
        return [pb_utils.InferenceResponse(answer.output_tensors())]
""" % way
    server = serve(source, init_extras={"execute_threads": 2})
    server.send(frame(EXECUTE, 1, block()), frame(EXECUTE, 2, block()))
    done, number = [], 0
    while len(done) < 2:
        found, call, blocks = server.next()
        if found == CALL:
            number += 1
            out = ("OUT", np.array([number]))
            stream = blocks[0][1].get("decoupled")
            server.send(part(call, True, 1 << 63 | number, out) if stream else
                        frame(CALL_ANSWER, call, block([out])))
        elif found == EXECUTED:
            done.append((call, blocks[0][0]["OUT"].array().tolist()))
    # In the order of the calls: two of each batch, or one of each batch and then the others.
    assert number == 4 and sorted(value for _, [value] in done) in ([2, 4], [3, 4])
