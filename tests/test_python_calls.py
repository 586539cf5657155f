"""Python models that call others: decoupled ones, with cancellation, deadlines and priorities."""

import http.client
import json
import textwrap
import threading

import pytest
import tritonclient.grpc as grpcclient
from harness import Server, write_model

HEAD = """
import asyncio, os, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

def out(*values):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(values, np.int32))])

def call(model, inputs, **more):
    return pb_utils.InferenceRequest(
        model_name=model, requested_output_names=["OUT"], inputs=inputs, **more)

def first(request):
    return int(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0])

class TritonPythonModel:
"""

CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] } ]
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"

REPEAT = """
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for i in range(first(request)):
                sender.send(out(i))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

# Sends responses until it is told to stop, and says in a file that it was.
ENDLESS = """
    def initialize(self, args):
        self.folder = args["model_repository"]

    def execute(self, requests):
        threading.Thread(target=self.send, args=(requests[0].get_response_sender(),)).start()

    def send(self, sender):
        while not sender.is_cancelled():
            sender.send(out(1))
            time.sleep(0.001)
        open(os.path.join(self.folder, "cancelled"), "w").close()
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

# Waits until its request is cancelled, and says in files that it has begun and ended.
WAITS = """
    def initialize(self, args):
        self.folder = args["model_repository"]

    def note(self, name):
        open(os.path.join(self.folder, name), "w").close()

    def execute(self, requests):
        self.note("began")
        while not requests[0].is_cancelled():
            time.sleep(0.001)
        self.note("cancelled")
        error = pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
        return [pb_utils.InferenceResponse(error=error)]
"""

MODELS = {
    "repeat": (REPEAT, DECOUPLED),
    "endless": (ENDLESS, DECOUPLED),
    "waits": (WAITS, ""),
    "calls_waits": (
        """
    def execute(self, requests):
        answer = call("waits", requests[0].inputs()).exec()
        return [pb_utils.InferenceResponse(error=answer.error())]
""",
        "",
    ),
    "sums": (
        """
    def execute(self, requests):
        answers = call("repeat", requests[0].inputs()).exec(decoupled=True)
        got = [t.as_numpy()[0] for a in answers for t in a.output_tensors()]
        again = [t.as_numpy()[0] for a in answers for t in a.output_tensors()]
        assert got == again
        return [out(len(got), sum(got))]
""",
        "",
    ),
    "sums_async": (
        """
    async def execute(self, requests):
        async def one():
            answers = await call("repeat", requests[0].inputs()).async_exec(decoupled=True)
            return [t.as_numpy()[0] async for a in answers for t in a.output_tensors()]
        got = await asyncio.gather(*(one() for _ in range(4)))
        return [out(*(sum(one) for one in got))]
""",
        "",
    ),
    # Answers when as many have come as its input says.
    "meets": (
        """
    def initialize(self, args):
        self.folder = args["model_repository"]
        self.name = args["model_instance_name"]

    def execute(self, requests):
        open(os.path.join(self.folder, "here_" + self.name), "w").close()
        give_up = time.monotonic() + 60
        while sum(name.startswith("here_") for name in os.listdir(self.folder)) < first(requests[0]):
            if time.monotonic() > give_up:
                raise RuntimeError("nobody else has come")
            time.sleep(0.001)
        return [out(1)]
""",
        "instance_group [ { count: 3 kind: KIND_CPU } ]",
    ),
    "invites": (
        """
    async def execute(self, requests):
        calls = [call("meets", requests[0].inputs()).async_exec() for _ in range(3)]
        return [out(*[(await one).output_tensors()[0].as_numpy()[0] for one in calls])]
""",
        "",
    ),
    # Comes again for each of its responses, and asks for a sender each time.
    "counts_down": (
        """
    left = 0

    def execute(self, requests):
        for request in requests:
            self.left = self.left or first(request)
            self.left -= 1
            if self.left:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                request.get_response_sender().send(out(self.left))
            else:
                flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                request.get_response_sender().send(out(0), flags=flags)
""",
        DECOUPLED + " sequence_batching { iterative_sequence: true }",
    ),
    "watches_the_count": (
        """
    def execute(self, requests):
        answers = call("counts_down", requests[0].inputs()).exec(decoupled=True)
        got = [a.error().message() if a.has_error() else a.output_tensors() for a in answers]
        return [out(*(t.as_numpy()[0] for tensors in got for t in tensors))]
""",
        "",
    ),
    # All responses are there when it goes on behind the first.
    "takes_one_first": (
        """
    def execute(self, requests):
        answers = call("repeat", requests[0].inputs()).exec(decoupled=True)
        got = [next(answers)]
        while len(answers._responses) < 4:
            call("doubles", requests[0].inputs()).exec()
        got += list(answers)
        return [out(*(t.as_numpy()[0] for a in got for t in a.output_tensors()))]
""",
        "",
    ),
    # Event loops that the model makes itself: in the thread of `execute`, and in another one.
    "loop_of_its_own": (
        """
    def execute(self, requests):
        async def double():
            answers = [call("doubles", r.inputs()).async_exec() for r in requests for _ in range(3)]
            return [a.output_tensors()[0].as_numpy()[0] for a in await asyncio.gather(*answers)]
        async def count():
            answers = await call("repeat", requests[0].inputs()).async_exec(decoupled=True)
            return [t.as_numpy()[0] async for a in answers for t in a.output_tensors()]
        return [out(*asyncio.run(double()), *asyncio.run(count()))]
""",
        "",
    ),
    "loop_in_a_thread": (
        """
    def initialize(self, args):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def execute(self, requests):
        async def double():
            answer = await call("doubles", requests[0].inputs()).async_exec()
            return answer.output_tensors()[0].as_numpy()
        return [out(*asyncio.run_coroutine_threadsafe(double(), self.loop).result())]
""",
        "",
    ),
    "calls_itself_in_a_loop": (
        """
    def execute(self, requests):
        if first(requests[0]) > 1:
            return [out(first(requests[0]))]
        async def again():
            inputs = [pb_utils.Tensor("IN", np.int32([5]))]
            return await call("calls_itself_in_a_loop", inputs).async_exec()
        return [out(*asyncio.run(again()).output_tensors()[0].as_numpy())]
""",
        "",
    ),
    # Nothing tells that these are coroutines but what they return.
    "decorated": (
        """
    def execute(self, requests):
        return self.double(requests)

    async def double(self, requests):
        answer = await call("doubles", requests[0].inputs()).async_exec()
        return [out(*answer.output_tensors()[0].as_numpy())]
""",
        "",
    ),
    "decorated_decoupled": (
        """
    def execute(self, requests):
        return self.double(requests[0].get_response_sender(), requests[0].inputs())

    async def double(self, sender, inputs):
        answer = await call("doubles", inputs).async_exec()
        sender.send(out(*answer.output_tensors()[0].as_numpy()))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
        DECOUPLED,
    ),
    "sums_decorated": (
        """
    def execute(self, requests):
        answers = call("decorated_decoupled", requests[0].inputs()).exec(decoupled=True)
        return [out(*(t.as_numpy()[0] for a in answers for t in a.output_tensors()))]
""",
        "",
    ),
    "doubles": (
        """
    def execute(self, requests):
        return [out(2 * first(request)) for request in requests]
""",
        "",
    ),
    "stops": (
        """
    def execute(self, requests):
        answers = call("endless", requests[0].inputs()).exec(decoupled=True)
        next(answers)
        answers.cancel()
        left = list(answers)
        return [out(1)]
""",
        "",
    ),
    "wrong_way": (
        """
    def execute(self, requests):
        return [pb_utils.InferenceResponse(error=call("repeat", requests[0].inputs()).exec().error())]
""",
        "",
    ),
    "tells": (
        """
    def execute(self, requests):
        r = requests[0]
        return [out(r.timeout(), r.priority())]
""",
        """
        dynamic_batching {
          priority_levels: 9 default_priority_level: 5
          default_queue_policy { allow_timeout_override: true }
        }""",
    ),
    "asks": (
        """
    def execute(self, requests):
        own = call("tells", requests[0].inputs(), timeout=77).exec()
        taken = call("tells", requests[0].inputs()).exec()
        return [out(*(v for a in (own, taken) for v in a.output_tensors()[0].as_numpy()))]
""",
        """
        max_batch_size: 0
        dynamic_batching {
          priority_levels: 9 default_priority_level: 5
          default_queue_policy { allow_timeout_override: true }
        }""",
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, (body, more) in MODELS.items():
        write_model(repository, name, textwrap.dedent(CONFIG) + more, {"model.py": HEAD + body})
    with Server(repository) as running:
        running.repository = repository
        yield running
        assert running.stop() == 0


def post(server, model, value=1, connection=None, **parameters):
    """Status and JSON of the answer, or nothing if only a connection was wanted."""
    body = {
        "inputs": [{"name": "IN", "shape": [1], "datatype": "INT32", "data": [value]}],
        "parameters": parameters,
    }
    fresh = connection or http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    fresh.request("POST", "/v2/models/%s/infer" % model, json.dumps(body))
    if connection:
        return None
    reply = fresh.getresponse()
    answer = json.loads(reply.read())
    fresh.close()
    return reply.status, answer


def values(answer):
    status, body = answer
    assert status == 200, body
    return body["outputs"][0]["data"]


def test_responses_of_a_decoupled_model(server):
    assert values(post(server, "sums", 5)) == [5, 10]
    assert values(post(server, "sums", 0)) == [0, 0]
    assert values(post(server, "sums_async", 4)) == [6] * 4


def test_calls_are_under_way_together_however_they_are_awaited(server):
    """Each of three calls ends only when the other two are being executed."""
    assert values(post(server, "invites", 3)) == [1, 1, 1]


def test_a_request_that_comes_again_for_each_response(server):
    assert values(post(server, "watches_the_count", 3)) == [2, 1, 0]
    assert values(post(server, "watches_the_count", 1)) == [0]


def test_an_iterator_goes_on_where_it_was(server):
    assert values(post(server, "takes_one_first", 3)) == [0, 1, 2]


def test_an_event_loop_of_the_model_s_own(server):
    assert values(post(server, "loop_of_its_own", 3)) == [6, 6, 6, 0, 1, 2]
    assert values(post(server, "loop_in_a_thread", 4)) == [8]


def test_a_model_that_calls_itself_from_its_event_loop(server):
    assert values(post(server, "calls_itself_in_a_loop")) == [5]


def test_an_execute_that_returns_a_coroutine(server):
    assert values(post(server, "decorated", 5)) == [10]
    assert values(post(server, "sums_decorated", 5)) == [10]


def test_a_decoupled_model_called_like_another(server):
    status, body = post(server, "wrong_way")
    assert status == 500 and "Please use 'decoupled=True'" in body["error"]


def test_a_model_stops_listening(server):
    assert values(post(server, "stops")) == [1]
    server.wait_for((server.repository / "endless" / "cancelled").exists)


@pytest.mark.parametrize("model", ["waits", "calls_waits"])
def test_a_client_that_hangs_up_cancels_what_works_for_it(server, model):
    folder = server.repository / "waits"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    post(server, model, connection=connection)
    server.wait_for((folder / "began").exists)
    connection.close()
    server.wait_for((folder / "cancelled").exists)
    (folder / "began").unlink()
    (folder / "cancelled").unlink()


def test_a_grpc_stream_that_is_cancelled(server):
    mark = server.repository / "endless" / "cancelled"
    mark.unlink(missing_ok=True)
    came = threading.Event()
    client = grpcclient.InferenceServerClient(server.grpc_url)
    client.start_stream(lambda result, error: came.set())
    tensor = grpcclient.InferInput("IN", [1], "INT32")
    tensor._raw_content = b"\1\0\0\0"
    client.async_stream_infer("endless", [tensor])
    assert came.wait(60)
    client.stop_stream(cancel_requests=True)
    server.wait_for(mark.exists)
    client.close()


def test_calls_take_over_priority_and_deadline(server):
    given = values(post(server, "asks", priority=3, timeout=60_000_000))
    assert given[0] == 77 and given[1] == given[3] == 3
    assert 0 < given[2] < 60_000_000
    assert values(post(server, "asks")) == [77, 0, 0, 0]
