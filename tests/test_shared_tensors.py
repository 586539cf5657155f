"""Large tensors that several have are one memory, and what a Python model writes there is its own."""

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from models import IDENTITY_MODEL, ensemble, python_model

HEAD = """
    import asyncio
    import numpy as np
    import triton_python_backend_utils as pb_utils

    def out(array):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])

    def call(model, array):
        return pb_utils.InferenceRequest(model_name=model, inputs=[pb_utils.Tensor("IN", array)],
            requested_output_names=["OUT"])

    def result(response):
        assert not response.has_error(), response.error().message()
        return response.output_tensors()[0].as_numpy()

    class TritonPythonModel:
        def execute(self, requests):
            return [self.one(request.inputs()[0].as_numpy()) for request in requests]
"""
MODELS = {
    "writes": """
        def one(self, x):
            x *= -1
            return out(x)
    """,
    "writes_late": """
        def execute(self, requests):
            responses = [out(r.inputs()[0].as_numpy()) for r in requests]
            for r in requests:
                r.get_response_sender().send(responses.pop(0), 1)
                x = r.inputs()[0].as_numpy()
                x *= -1
            return [None for _ in requests]
    """,
    "passes": """
        def one(self, x):
            return out(x)
    """,
    # What is left of its input when others have written to it, and to what they have answered.
    "calls": """
        def one(self, x):
            for model in ("writes", "writes_late", "writes"):
                result(call(model, x).exec())[:] = 7
            passed = result(call("passes", x).exec())
            passed += 1
            return out(x)
    """,
    # What it was answered with after the caller has written to its own.
    "calls_and_writes": """
        def one(self, x):
            passed = result(call("passes", x).exec())
            again = result(call("passes", passed[10:]).exec())
            x *= 5
            again *= 3
            return out(passed)
    """,
    # One model has the same tensor several times in hand.
    "gathers": """
        async def execute(self, requests):
            return [await self.all(r.inputs()[0].as_numpy()) for r in requests]

        async def all(self, x):
            calls = [call(m, x).async_exec() for m in ("several", "several", "writes", "several")]
            got = [result(response) for response in await asyncio.gather(*calls)]
            assert all((array == -x).all() for array in got), [array[:2] for array in got]
            return out(x)
    """,
    "several": """
        async def execute(self, requests):
            return [await self.one(r.inputs()[0].as_numpy()) for r in requests]

        async def one(self, x):
            x *= -1
            await asyncio.sleep(0.05)
            return out(x)
    """,
    "cached_and_written": """
        def one(self, x):
            got = result(call("cached", x).exec())
            got *= 5
            return out(got)
    """,
}

@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, body in MODELS.items():
        more = 'parameters { key: "EXECUTE_THREADS" value: { string_value: "4" } }'
        more = more if name == "several" else ""
        python_model(repository, name, HEAD + body, max_batch_size=0, more=more)
    cache = "response_cache { enable: true }"
    python_model(repository, "cached", IDENTITY_MODEL, max_batch_size=0, more=cache)
    # Who writes to X is one of two who get it, and it is answered, too.
    steps = [("passes", "IN", "X"), ("writes", "X", "A"), ("writes_late", "X", "B"), ("passes", "X", "C")]
    steps = [(model, -1, {"IN": reads}, {"OUT": writes}) for model, reads, writes in steps]
    written = ensemble(steps, outputs=["X", "A", "B", "C"], dims="-1", batch=0)
    write_model(repository, "steps", written)
    with Server(repository, "--cache-config=local,size=100000000") as running:
        yield running


@pytest.fixture
def ask(server):
    client = httpclient.InferenceServerClient(server.url)

    def ask(model, array):
        tensor = httpclient.InferInput("IN", array.shape, "FP32")
        tensor.set_data_from_numpy(array)
        return client.infer(model, [tensor])

    yield ask
    client.close()


# Too small for shared memory, and large.
@pytest.mark.parametrize("size", [100, 100_000])
@pytest.mark.parametrize("model", ["calls", "calls_and_writes", "gathers", "steps"])
def test_what_a_model_writes_is_seen_by_nobody_else(ask, model, size):
    for first in (1, 2, 3):
        array = np.arange(first, first + size, dtype=np.float32)
        answer = ask(model, array)
        for name in ("X", "A", "B", "C") if model == "steps" else ("OUT",):
            expected = -array if name == "A" else array
            np.testing.assert_array_equal(answer.as_numpy(name), expected, err_msg=name)


@pytest.mark.parametrize("size", [100, 100_000])
def test_what_is_cached_does_not_change(ask, size):
    array = np.arange(size, dtype=np.float32)
    for _ in range(4):
        np.testing.assert_array_equal(ask("cached_and_written", array).as_numpy("OUT"), 5 * array)


def test_a_model_that_answers_early_writes_to_its_own(ask):
    for first in range(4):
        array = np.full(100_000, first, np.float32)
        np.testing.assert_array_equal(ask("writes_late", array).as_numpy("OUT"), array)
