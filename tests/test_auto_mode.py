"""Models that come with their first request and leave when memory is short."""

import threading

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import Server, write_model
from models import config, python_model
from tritonclient.utils import InferenceServerException

SIZE = 'parameters { key: "memory_bytes" value { string_value: "100" } }'
IDENTITY = config("identity", dims="[ 2 ]", more=SIZE)
# Answers once a file is there; says that it has begun by making another.
HELD = """
    import os, pathlib, time
    import triton_python_backend_utils as pb_utils

    HERE = pathlib.Path(__file__).parent

    class TritonPythonModel:
        def execute(self, requests):
            (HERE / "begun").touch()
            while not (HERE / "go").exists():
                time.sleep(0.01)
            get = pb_utils.get_input_tensor_by_name
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", get(r, "IN").as_numpy())]) for r in requests]
"""
CALLS = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                given = pb_utils.get_input_tensor_by_name(request, "IN")
                call = pb_utils.InferenceRequest(
                    model_name="a", requested_output_names=["OUT"], inputs=[given]
                )
                answer = call.exec()
                if answer.has_error():
                    raise pb_utils.TritonModelException(answer.error().message())
                answers.append(pb_utils.InferenceResponse(answer.output_tensors()))
            return answers
"""


@pytest.fixture
def auto(tmp_path):
    """A server with room for two of its models; `kept` stays."""
    for name in ("a", "b", "c", "kept"):
        write_model(tmp_path, name, IDENTITY)
    python_model(tmp_path, "held", HELD, dims="[ 2 ]", more=SIZE)
    python_model(tmp_path, "calls", CALLS, dims="[ 2 ]", more=SIZE)
    python_model(tmp_path, "broken", "raise ValueError('no such luck')", dims="[ 2 ]")
    flags = ["--model-control-mode=auto", "--model-memory-budget=399", "--load-model=kept"]
    with Server(tmp_path, *flags) as server:
        client = httpclient.InferenceServerClient(server.url, concurrency=8)
        yield server, client, tmp_path
        client.close()


def tensor(kind):
    made = kind.InferInput("IN", [1, 2], "FP32")
    made.set_data_from_numpy(np.float32([[3, 3]]))
    return made


def ask(client, model):
    assert client.infer(model, [tensor(httpclient)]).as_numpy("OUT")[0, 0] == 3


def serving(client):
    rows = client.get_model_repository_index()
    return {row["name"] for row in rows if row.get("state") == "READY"}


def test_models_come_with_requests_and_the_oldest_leave(auto):
    server, client, _ = auto
    assert client.is_server_ready() and serving(client) == {"kept"}
    for model, there in (("a", "a"), ("b", "ab"), ("c", "bc"), ("a", "ca")):
        ask(client, model)
        assert serving(client) == {"kept", *there}
    assert client.is_server_ready()
    with pytest.raises(InferenceServerException, match="'nobody' is not found"):
        ask(client, "nobody")
    for _ in range(2):
        with pytest.raises(InferenceServerException, match="cannot be loaded.*no such luck"):
            ask(client, "broken")
    assert server.log().count("failed to load 'broken'") == 1


def test_who_asks_for_a_model_brings_it(auto):
    server, client, _ = auto
    assert client.get_model_metadata("a")["name"] == "a"
    assert client.is_model_ready("b")
    with grpcclient.InferenceServerClient(server.grpc_url) as grpc:
        assert grpc.get_model_config("c").config.max_batch_size == 8
        assert "c" in serving(client) and "a" not in serving(client)
        answers = []
        grpc.start_stream(lambda result, error: answers.append(error or result))
        grpc.async_stream_infer("a", [tensor(grpcclient)])
        grpc.stop_stream()
        assert answers[0].as_numpy("OUT")[0, 0] == 3


def test_a_model_that_calls_another_brings_it(auto):
    _, client, _ = auto
    ask(client, "calls")
    assert {"a", "calls"} <= serving(client)


def test_requests_wait_for_one_load(auto):
    server, client, _ = auto
    threads = [threading.Thread(target=ask, args=(client, "calls")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.log().count("successfully loaded 'calls'") == 1


def test_what_is_running_is_not_cut(auto):
    server, client, repository = auto
    done = []
    running = threading.Thread(target=lambda: done.append(ask(client, "held")))
    running.start()
    server.wait_for((repository / "held/1/begun").exists)
    own = httpclient.InferenceServerClient(server.url)
    for model in ("a", "b", "c", "a", "b", "c"):
        ask(own, model)
    assert "held" not in serving(own)
    (repository / "held/1/go").touch()
    running.join()
    own.close()
    assert done == [None]
