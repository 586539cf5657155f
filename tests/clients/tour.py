"""Everything that a stock client can ask of a server, in a process of its own: the version that is
imported is the one in PYTHONPATH.

    tour.py HTTP_PORT GRPC_PORT

Prints the client's version and what was gone through; anything unexpected is an exception. Clients of
long ago lack calls that younger ones have: those are left out, and so not printed.
"""

import asyncio
import json
import queue
import sys
import time

import numpy as np
import tritonclient
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

try:
    import tritonclient.grpc.aio as grpcaio
    import tritonclient.http.aio as httpaio
except ImportError:  # Younger than the oldest client.
    grpcaio = httpaio = None

NUMBERS = np.arange(6, dtype=np.float32).reshape(1, 6)
WORDS = np.array([["a", "жук"]], dtype=np.object_)
DONE = []


def tensor(module, array, datatype, **options):
    made = module.InferInput("IN", list(array.shape), datatype)
    made.set_data_from_numpy(array, **options)
    return made


def same(result, array):
    got = result.as_numpy("OUT")
    if array is WORDS:
        got = np.vectorize(bytes.decode, otypes=[object])(got)
    assert got.tolist() == array.tolist(), got


def requests(module):
    """Models, inputs, outputs, and what comes back."""
    wanted = [module.InferRequestedOutput("OUT")]
    yield "numbers", [tensor(module, NUMBERS, "FP32")], wanted, NUMBERS
    yield "words", [tensor(module, WORDS, "BYTES")], wanted, WORDS
    yield "numbers", [tensor(module, NUMBERS, "FP32")], None, NUMBERS
    if module is httpclient:
        text = [module.InferRequestedOutput("OUT", binary_data=False)]
        yield "numbers", [tensor(module, NUMBERS, "FP32", binary_data=False)], text, NUMBERS


def name_of(answer):
    return answer["name"] if isinstance(answer, dict) else answer.name


def is_ready(client, model):
    try:
        return client.is_model_ready(model)
    except InferenceServerException:  # It has no version any more.
        return False


def look_around(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("numbers")
    assert name_of(client.get_server_metadata()) == "triton"
    assert name_of(client.get_model_metadata("numbers")) == "numbers"
    config = client.get_model_config("numbers")
    assert name_of(config if isinstance(config, dict) else config.config) == "numbers"
    client.get_inference_statistics("numbers")
    index = client.get_model_repository_index()
    models = index if isinstance(index, list) else index.models
    assert {name_of(model) for model in models} >= {"numbers", "words"}
    DONE.append("metadata")
    client.unload_model("words")
    deadline = time.monotonic() + 60
    while is_ready(client, "words"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client.load_model("words")
    assert client.is_model_ready("words")
    DONE.append("control")
    for call in ("get_trace_settings", "get_log_settings"):
        if hasattr(client, call):
            getattr(client, call)()
            DONE.append(call)


def infer(client, module):
    for model, inputs, outputs, expected in requests(module):
        same(client.infer(model, inputs, outputs=outputs, request_id="7"), expected)
    DONE.append("infer")
    try:
        client.infer("nobody", [tensor(module, NUMBERS, "FP32")])
        raise AssertionError("there is no such model")
    except InferenceServerException as error:
        assert "Request for unknown model: 'nobody' is not found" in error.message(), error
    DONE.append("errors")


def system_shared_memory(client, module):
    size = NUMBERS.nbytes
    handles = [shm.create_shared_memory_region(n, "/nereid_tour_" + n, size) for n in ("in", "out")]
    try:
        for name in ("in", "out"):
            client.register_system_shared_memory(name, "/nereid_tour_" + name, size)
        shm.set_shared_memory_region(handles[0], [NUMBERS])
        given = module.InferInput("IN", list(NUMBERS.shape), "FP32")
        given.set_shared_memory("in", size)
        wanted = module.InferRequestedOutput("OUT")
        wanted.set_shared_memory("out", size)
        client.infer("numbers", [given], outputs=[wanted])
        got = shm.get_contents_as_numpy(handles[1], np.float32, NUMBERS.shape)
        np.testing.assert_array_equal(got, NUMBERS)
        status = client.get_system_shared_memory_status()
        assert len(status if isinstance(status, list) else status.regions) == 2
    finally:
        client.unregister_system_shared_memory()
        for handle in handles:
            shm.destroy_shared_memory_region(handle)
    DONE.append("shared memory")


def go_http(url):
    with httpclient.InferenceServerClient(url, concurrency=4) as client:
        look_around(client)
        infer(client, httpclient)
        running = [
            (client.async_infer(model, inputs, outputs=outputs), expected)
            for model, inputs, outputs, expected in requests(httpclient)
        ]
        for request, expected in running:
            same(request.get_result(), expected)
        DONE.append("async")
        system_shared_memory(client, httpclient)
        try:
            for algorithm in ("gzip", "deflate"):
                inputs = [tensor(httpclient, NUMBERS, "FP32")]
                options = {
                    "request_compression_algorithm": algorithm,
                    "response_compression_algorithm": algorithm,
                }
                same(client.infer("numbers", inputs, **options), NUMBERS)
            DONE.append("compression")
        except TypeError:  # Not in the oldest client.
            pass


def go_grpc(url):
    with grpcclient.InferenceServerClient(url) as client:
        look_around(client)
        infer(client, grpcclient)
        answers = queue.Queue()

        def taken(result, error):
            answers.put((result, error))

        for model, inputs, outputs, _ in requests(grpcclient):
            client.async_infer(model, inputs, taken, outputs=outputs)
            result, error = answers.get(timeout=60)
            assert error is None
        DONE.append("async")
        client.start_stream(taken)
        for _ in range(3):
            client.async_stream_infer("numbers", [tensor(grpcclient, NUMBERS, "FP32")])
        for _ in range(3):
            result, error = answers.get(timeout=60)
            assert error is None
            same(result, NUMBERS)
        client.stop_stream()
        DONE.append("stream")
        system_shared_memory(client, grpcclient)


async def go_aio(module, plain, url):
    async with module.InferenceServerClient(url) as client:
        assert await client.is_server_live() and await client.is_model_ready("numbers")
        assert name_of(await client.get_model_metadata("numbers")) == "numbers"
        for model, inputs, outputs, expected in requests(plain):
            same(await client.infer(model, inputs, outputs=outputs), expected)
        many = [
            client.infer("numbers", [tensor(plain, NUMBERS + i, "FP32")]) for i in range(20)
        ]
        for i, result in enumerate(await asyncio.gather(*many)):
            same(result, NUMBERS + i)
        try:
            await client.infer("nobody", [tensor(plain, NUMBERS, "FP32")])
            raise AssertionError("there is no such model")
        except InferenceServerException as error:
            assert "is not found" in error.message(), error
        DONE.append("infer")
        if not hasattr(client, "stream_infer"):
            return

        async def asked():
            for _ in range(3):
                yield {"model_name": "numbers", "inputs": [tensor(plain, NUMBERS, "FP32")]}

        count = 0
        async for result, error in client.stream_infer(asked()):
            assert error is None
            same(result, NUMBERS)
            count += 1
        assert count == 3
        DONE.append("stream")


def main():
    ports = ["127.0.0.1:" + port for port in sys.argv[1:3]]
    done = {}
    for name, tour in (
        ("http", lambda: go_http(ports[0])),
        ("grpc", lambda: go_grpc(ports[1])),
        ("http.aio", lambda: httpaio and asyncio.run(go_aio(httpaio, httpclient, ports[0]))),
        ("grpc.aio", lambda: grpcaio and asyncio.run(go_aio(grpcaio, grpcclient, ports[1]))),
    ):
        DONE.clear()
        tour()
        done[name] = list(DONE)
    print(json.dumps({"client": tritonclient.__path__[0], "done": done}))


main()
