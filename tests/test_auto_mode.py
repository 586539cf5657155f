"""Models that come with their first request and leave when memory is short."""

import threading

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import Server, write_model
from models import HELD, config, python_model
from tritonclient.utils import InferenceServerException

SIZE = 'parameters { key: "memory_bytes" value { string_value: "100" } }'
IDENTITY = config("identity", dims="[ 2 ]", more=SIZE)
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


SLOW_START = """
    import pathlib, time
    import triton_python_backend_utils as pb_utils

    HERE = pathlib.Path(__file__).parent

    class TritonPythonModel:
        def initialize(self, args):
            (HERE / "begun").touch()
            while not (HERE / "go").exists():
                time.sleep(0.01)

        def execute(self, requests):
            get = pb_utils.get_input_tensor_by_name
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", get(r, "IN").as_numpy())]) for r in requests]
"""


def test_a_slow_load_holds_up_nobody_and_not_too_many_wait_for_it(tmp_path):
    python_model(tmp_path, "slow", SLOW_START, dims="[ 2 ]", more=SIZE)
    write_model(tmp_path, "a", IDENTITY)
    flags = ["--model-control-mode=auto", "--model-memory-budget=399", "--model-load-max-waiting=3"]
    with Server(tmp_path, *flags) as server:
        client = httpclient.InferenceServerClient(server.url, concurrency=8)
        waiting = [client.async_infer("slow", [tensor(httpclient)]) for _ in range(3)]
        server.wait_for((tmp_path / "slow/1/begun").exists)
        own = httpclient.InferenceServerClient(server.url)

        def refused():
            try:
                own.infer("slow", [tensor(httpclient)], timeout=1000000, request_id="x")
            except InferenceServerException as error:
                return "wait for models already" in str(error) and error.status() == "503"

        server.wait_for(refused)
        assert "slow" not in serving(own)
        with pytest.raises(InferenceServerException, match="wait for models already"):
            ask(own, "a")
        (tmp_path / "slow/1/go").touch()
        assert all(answer.get_result().as_numpy("OUT")[0, 0] == 3 for answer in waiting)
        ask(own, "a")
        own.close()
        client.close()


def test_loads_run_at_the_same_time(tmp_path):
    """Two models whose starts wait for each other."""
    for name, other in (("one", "two"), ("two", "one")):
        body = SLOW_START.replace('HERE / "go"', 'HERE.parent.parent / "%s/1/begun"' % other)
        python_model(tmp_path, name, body, dims="[ 2 ]", more=SIZE)
    with Server(tmp_path, "--model-control-mode=auto", "--model-memory-budget=399") as server:
        client = httpclient.InferenceServerClient(server.url, concurrency=2)
        answers = [client.async_infer(name, [tensor(httpclient)]) for name in ("one", "two")]
        assert all(answer.get_result().as_numpy("OUT")[0, 0] == 3 for answer in answers)
        client.close()


def test_a_crowd_of_models_in_little_room(tmp_path):
    """Everybody is answered though every load pushes out what somebody else has just asked for."""
    for number in range(12):
        write_model(tmp_path, "m%d" % number, IDENTITY)
    with Server(tmp_path, "--model-control-mode=auto", "--model-memory-budget=250") as server:
        failures = []

        def keep_asking(seed):
            own = httpclient.InferenceServerClient(server.url)
            for turn in range(25):
                try:
                    ask(own, "m%d" % ((seed * 5 + turn * 7) % 12))
                except Exception as error:
                    failures.append(error)
            own.close()

        threads = [threading.Thread(target=keep_asking, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, [str(one) for one in failures]
        client = httpclient.InferenceServerClient(server.url)
        assert len(serving(client)) <= 2
        client.close()
