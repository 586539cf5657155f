"""Python models read inputs where clients have put them, and clients do not notice."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as httpclient
import tritonclient.utils.shared_memory as shm
from harness import Server, write_model
from models import IDENTITY_MODEL, config, python_model
from test_cancellation import pending
from tritonclient.utils import InferenceServerException

ELEMENTS = 300_000

HEAD = """
    import os, time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    def read(request):
        return pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()

    def answer(array):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])

    def place(array):
        '''What is mapped where the array is, as numbers.'''
        at = array.__array_interface__["data"][0]
        for line in open("/proc/self/maps"):
            start, end = (int(one, 16) for one in line.split()[0].split("-"))
            if start <= at < end:
                return np.frombuffer(line.split()[5].encode(), np.uint8).astype(np.float32)

    class TritonPythonModel:
"""

MODELS = {
    # Where the input lies.
    "where": """
        def execute(self, requests):
            return [answer(place(read(r))) for r in requests]
    """,
    # The same, of its own input and that of the model it calls.
    "caller": """
        def execute(self, requests):
            call = lambda r: pb_utils.InferenceRequest(
                model_name="where", inputs=[r.inputs()[0]], requested_output_names=["OUT"]).exec()
            return [pb_utils.InferenceResponse(call(r).output_tensors()) for r in requests]
    """,
    "double": """
        def execute(self, requests):
            answers = []
            for request in requests:
                x = read(request)
                x *= 2
                answers.append(answer(np.append(x, len(requests))[None]))
            return answers
    """,
    "passes_on": """
        def execute(self, requests):
            answers = []
            for request in requests:
                x = read(request)
                x[-1] = -5
                call = pb_utils.InferenceRequest(
                    model_name="identity", inputs=[request.inputs()[0]], requested_output_names=["OUT"])
                x = pb_utils.get_output_tensor_by_name(call.exec(), "OUT").as_numpy()
                answers.append(answer(x))
            return answers
    """,
    # What it was given the time before.
    "before": """
        kept = np.zeros(1, np.float32)

        def execute(self, requests):
            last, self.kept = self.kept, read(requests[0])
            return [answer(last)]
    """,
    # Goes on after it has answered.
    "late": """
        seen = np.zeros(1, np.float32)

        def execute(self, requests):
            x = read(requests[0])
            requests[0].get_response_sender().send(answer(self.seen), 1)
            while not os.path.exists(%r):
                time.sleep(0.001)
            os.unlink(%r)
            self.seen = x.copy()
            return [None]
    """,
    "fails": """
        def execute(self, requests):
            x = read(requests[0])
            if x[0] < 0:
                x[:] = 0
                raise ValueError("negative")
            return [answer(x)]
    """,
}

# Workers that have not met such a request yet.
MODELS["writes_busy"], MODELS["keeps_busy"] = MODELS["passes_on"], MODELS["before"]


@pytest.fixture(scope="module")
def flag(tmp_path_factory):
    """The file that "late" waits for."""
    return tmp_path_factory.mktemp("flags") / "go"


@pytest.fixture(scope="module")
def server(tmp_path_factory, flag):
    repository = tmp_path_factory.mktemp("models")
    for name, body in MODELS.items():
        batches = name == "double"
        more = "dynamic_batching { preferred_batch_size: 2 max_queue_delay_microseconds: 3000000 }"
        body = HEAD + (body % (str(flag), str(flag)) if name == "late" else body)
        options = {"max_batch_size": 2, "more": more} if batches else {"max_batch_size": 0}
        python_model(repository, name, body, **options)
    python_model(repository, "identity", IDENTITY_MODEL, max_batch_size=0)
    cached = config("identity", max_batch_size=0, more="response_cache { enable: true }")
    write_model(repository, "cached", cached)
    slow = 'parameters { key: "execute_delay_ms" value: { string_value: "1000" } }'
    write_model(repository, "slow", config("identity", max_batch_size=0, more=slow))
    with Server(
        repository, "--allow-client-shm=true", "--cache-config=local,size=100000000"
    ) as running:
        yield running


class Region:
    """A registered region with room for some arrays, and how a model is asked about what is in it."""

    def __init__(self, client, name, arrays=1):
        self.client, self.name, self.key = client, name, "/nereid_place_" + name
        self.size = arrays * ELEMENTS * 4
        self.handle = shm.create_shared_memory_region(name, self.key, self.size)
        client.register_system_shared_memory(name, self.key, self.size)

    def put(self, array, offset=0):
        shm.set_shared_memory_region(self.handle, [array.astype(np.float32)], offset)

    def tensor(self, offset=0, shape=(ELEMENTS,)):
        tensor = httpclient.InferInput("IN", shape, "FP32")
        tensor.set_shared_memory(self.name, ELEMENTS * 4, offset)
        return tensor

    def ask(self, model, offset=0):
        return self.client.infer(model, [self.tensor(offset)]).as_numpy("OUT")

    def where(self, model):
        return bytes(self.ask(model).astype(np.uint8)).decode()


@pytest.fixture
def client(server):
    client = httpclient.InferenceServerClient(server.url, concurrency=4)
    yield client
    client.unregister_system_shared_memory()
    client.close()


@pytest.fixture
def region(client, request):
    made = []

    def make(name, arrays=1):
        made.append(Region(client, name, arrays))
        return made[-1]

    yield make
    for one in made:
        shm.destroy_shared_memory_region(one.handle)


def numbered(first):
    return np.arange(first, first + ELEMENTS, dtype=np.float32)


def same(got, expected):
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("model", ["where", "caller"])
def test_an_input_is_read_where_it_is(region, model):
    one = region("where")
    assert "arena" in one.where(model), "the worker has not heard of the region"
    for _ in range(2):
        last = one.where(model)
    assert last == "/dev/shm" + one.key


def test_every_request_sees_what_the_client_has_put_there(region):
    one = region("fresh")
    for first in range(5):
        one.put(numbered(first))
        same(one.ask("identity"), numbered(first))


def test_what_a_model_writes_is_its_own(region):
    one = region("written")
    for first in range(4):
        one.put(numbered(first))
        same(one.ask("passes_on"), np.append(numbered(first)[:-1], -5))
        same(shm.get_contents_as_numpy(one.handle, np.float32, [ELEMENTS]), numbered(first))


def test_requests_of_one_batch_over_the_same_memory(region, client):
    one = region("batch")
    one.put(numbered(1))
    inputs = [one.tensor(shape=(1, ELEMENTS))]
    for _ in range(3):
        for asked in [client.async_infer("double", inputs) for _ in range(2)]:
            same(asked.get_result().as_numpy("OUT")[0], np.append(2 * numbered(1), 2))


@pytest.mark.parametrize("model, last", [("writes_busy", -5), ("keeps_busy", ELEMENTS)])
def test_requests_in_flight_over_the_same_memory(region, client, model, last):
    one = region("busy")
    one.put(numbered(1))
    for _ in range(2):
        asked = [client.async_infer(model, [one.tensor()]) for _ in range(4)]
        got = [answer.get_result().as_numpy("OUT") for answer in asked]
        for array in got if model == "writes_busy" else got[-1:]:
            same(array, np.append(numbered(1)[:-1], last))
        same(shm.get_contents_as_numpy(one.handle, np.float32, [ELEMENTS]), numbered(1))


def test_neighbours_on_one_page(region):
    """Neither range begins or ends on a page."""
    one = region("neighbours", 2)
    for first in range(4):
        one.put(np.concatenate([numbered(first), numbered(first + 7)]))
        for offset, expected in ((0, first), (ELEMENTS * 4, first + 7)):
            same(one.ask("passes_on", offset), np.append(numbered(expected)[:-1], -5))
            same(one.ask("identity", offset), numbered(expected))


def test_an_input_that_a_model_keeps_does_not_change(region):
    one = region("kept")
    for first in range(5):
        one.put(numbered(first))
        got = one.ask("before")
        if first:
            same(got, numbered(first - 1))


def test_an_input_does_not_change_after_an_early_answer(region, client, flag):
    """Not even if the next request waits already, whose input is copied to where there is room."""
    one = region("late")
    one.put(numbered(0))
    asked = client.async_infer("late", [one.tensor()])
    for first in range(1, 6):
        seen = asked.get_result().as_numpy("OUT")
        if first > 1:
            same(seen, numbered(first - 2))
        one.put(numbered(first))
        asked = client.async_infer("late", [one.tensor()])
        time.sleep(0.1)
        flag.touch()
    asked.get_result()
    flag.touch()


def test_a_model_that_failed_goes_on(region):
    one = region("fails")
    for first in (1, -1, 2, -2, 3):
        one.put(numbered(first))
        if first < 0:
            with pytest.raises(InferenceServerException, match="negative"):
                one.ask("fails")
        else:
            same(one.ask("fails"), numbered(first))


def test_a_cached_answer_does_not_change(region, client):
    one = region("cached")
    for first in (1, 2):
        one.put(numbered(first))
        same(one.ask("cached"), numbered(first))
    sent = httpclient.InferInput("IN", [ELEMENTS], "FP32")
    sent.set_data_from_numpy(numbered(1))
    same(client.infer("cached", [sent]).as_numpy("OUT"), numbered(1))


def test_a_region_that_has_gone_is_unmapped(region, client, server):
    one = region("gone")
    server.wait_for(lambda: one.where("where") == "/dev/shm" + one.key)
    client.unregister_system_shared_memory("gone")
    maps = [Path("/proc/%d/maps" % worker) for worker in server.workers()]
    assert maps
    server.wait_for(lambda: not any(one.key in file.read_text() for file in maps))


@pytest.mark.parametrize("model", ["identity", "cached"])
def test_a_region_whose_object_was_cut(region, model):
    one = region("cut")
    same(one.ask(model).shape, [ELEMENTS])
    os.truncate("/dev/shm" + one.key, 4096)
    with pytest.raises(InferenceServerException, match="'cut' has become smaller since it was"):
        one.ask(model)
    os.truncate("/dev/shm" + one.key, one.size)
    one.put(numbered(3))
    same(one.ask(model), numbered(3))


def test_an_object_that_is_cut_while_its_request_waits(region, client, server):
    one, out = region("cut_early"), region("cut_out")
    one.put(numbered(1))
    wanted = httpclient.InferRequestedOutput("OUT")
    wanted.set_shared_memory(out.name, out.size)
    direct = httpclient.InferInput("IN", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))
    first = client.async_infer("slow", [direct])
    asked = client.async_infer("slow", [one.tensor()], outputs=[wanted])
    # To ask the server something lets the client's other requests go, too.
    server.wait_for(lambda: client.is_server_live() and pending(server, "slow") == 1)
    os.truncate("/dev/shm" + one.key, 4096)
    first.get_result()
    asked.get_result()
    got = shm.get_contents_as_numpy(out.handle, np.float32, [ELEMENTS])
    same(got, np.append(numbered(1)[:1024], np.zeros(ELEMENTS - 1024)))

    os.truncate("/dev/shm" + one.key, one.size)
    with pytest.raises(InferenceServerException, match="has become smaller"):
        one.ask("slow")
    client.unregister_system_shared_memory(one.name)
    client.register_system_shared_memory(one.name, one.key, one.size)
    one.put(numbered(2))
    same(one.ask("slow"), numbered(2))
