"""Instance counts that change while a model serves: nothing else is loaded anew."""

import json
import threading
import time

import numpy as np
import onnx_models
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from models import config, python_model
from tritonclient.utils import InferenceServerException

FLAGS = "--model-control-mode=explicit", "--load-model=*"
# Says which process has answered; waits for a file where it is told to.
SLOW = """
    import os, pathlib, time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    HERE = pathlib.Path(__file__).parent

    class TritonPythonModel:
        def initialize(self, args):
            if (HERE.parent.parent / "broken").exists():
                raise ValueError("no such luck")

        def execute(self, requests):
            answers = []
            for request in requests:
                given = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                if given[0, 0] < 0:
                    (HERE / "begun").touch()
                    while not (HERE / "go").exists():
                        time.sleep(0.01)
                pid = np.full(given.shape, os.getpid(), np.float32)
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", pid)]))
            return answers
"""


def group(count, more=""):
    return "instance_group [ { count: %d kind: KIND_CPU %s } ]" % (count, more)


def rewrite(repository, name, count, backend="python", **options):
    text = config(backend, dims="[ 1 ]", more=group(count), **options)
    (repository / name / "config.pbtxt").write_text(text)


def ask(client, model, value=1.0):
    tensor = httpclient.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.float32([[value]]))
    return client.infer(model, [tensor]).as_numpy("OUT")[0, 0]


def count(client, model):
    config = client.get_model_config(model)
    return [group["count"] for group in config["instance_group"]]


def executions(server, model):
    return json.loads(server.get("/v2/models/%s/stats" % model)[1])["model_stats"][0]["execution_count"]


@pytest.fixture
def served(tmp_path):
    python_model(tmp_path, "slow", SLOW, dims="[ 1 ]", more=group(1))
    with Server(tmp_path, *FLAGS) as server:
        client = httpclient.InferenceServerClient(server.url, concurrency=8)
        yield server, client, tmp_path
        client.close()


def test_instances_come_and_go_and_the_others_stay(served):
    server, client, repository = served
    [first] = server.workers()
    assert ask(client, "slow") == first
    rewrite(repository, "slow", 3)
    client.load_model("slow")
    assert count(client, "slow") == [3]
    assert len(server.workers()) == 3 and first in server.workers()
    assert server.log().count("successfully loaded 'slow'") == 1
    assert "changed the instances of 'slow' in place" in server.log()
    assert executions(server, "slow") == 1, "its statistics go on"
    rewrite(repository, "slow", 1)
    client.load_model("slow")
    server.wait_for(lambda: server.workers() == [first])
    assert ask(client, "slow") == first
    rewrite(repository, "slow", 2, max_batch_size=4)
    client.load_model("slow")
    assert server.log().count("successfully loaded 'slow'") == 2, "more has changed than instances"


def test_what_runs_is_answered_and_what_waits_finds_the_new_instance(served):
    server, client, repository = served
    held = client.async_infer("slow", [negative()])
    server.wait_for((repository / "slow/1/begun").exists)
    waiting = [client.async_infer("slow", [negative(1.0)]) for _ in range(3)]
    time.sleep(0.1)
    rewrite(repository, "slow", 2)
    own = httpclient.InferenceServerClient(server.url)
    own.load_model("slow")
    ask(own, "slow")
    rewrite(repository, "slow", 1)
    own.load_model("slow")
    (repository / "slow/1/go").touch()
    assert held.get_result().as_numpy("OUT")[0, 0] > 0
    assert all(answer.get_result() for answer in waiting)
    server.wait_for(lambda: len(server.workers()) == 1)
    own.close()


def negative(value=-1.0):
    tensor = httpclient.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.float32([[value]]))
    return tensor


def test_instances_that_do_not_start_change_nothing(served):
    server, client, repository = served
    before = server.workers()
    (repository / "broken").touch()
    rewrite(repository, "slow", 2)
    with pytest.raises(InferenceServerException, match="no such luck"):
        client.load_model("slow")
    assert ask(client, "slow") == before[0] and count(client, "slow") == [1]
    server.wait_for(lambda: server.workers() == before)
    (repository / "broken").unlink()
    client.load_model("slow")
    assert count(client, "slow") == [2]


def test_a_configuration_of_the_clients_own_changes_instances_too(served):
    server, client, _ = served
    wanted = client.get_model_config("slow")
    wanted["instance_group"] = [{"count": 2, "kind": "KIND_CPU"}]
    client.load_model("slow", config=json.dumps(wanted))
    client.load_model("slow", config=json.dumps(wanted))
    # The worker from before the first of them may take a moment to go.
    server.wait_for(lambda: len(server.workers()) == 2)
    workers = server.workers()
    wanted["instance_group"][0]["count"] = 4
    client.load_model("slow", config=json.dumps(wanted))
    assert set(workers) < set(server.workers()) and len(server.workers()) == 4


@pytest.mark.parametrize("engine", ["identity", "onnxruntime"])
def test_native_backends_under_load(tmp_path, engine):
    """Counts go up and down while requests run; every one of them is answered rightly."""
    if engine == "identity":
        write_model(tmp_path, "net", config("identity", dims="[ 1 ]", more=group(1)))
    else:
        onnx_models.write(tmp_path, "scale")
    with Server(tmp_path, *FLAGS) as server:
        client = httpclient.InferenceServerClient(server.url)
        model = "net" if engine == "identity" else "scale"
        wanted = client.get_model_config(model)
        tensors = wanted["input"]
        failures, asked, stop = [], [], threading.Event()

        def keep_asking():
            own = httpclient.InferenceServerClient(server.url)
            while not stop.is_set():
                try:
                    asked.append(infer_zeros(own, model, tensors))
                except Exception as error:
                    failures.append(error)
            own.close()

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in (3, 1, 4, 2, 1, 5, 1):
                wanted["instance_group"] = [{"count": number, "kind": "KIND_CPU"}]
                client.load_model(model, config=json.dumps(wanted))
                assert count(client, model) == [number]
                server.wait_for(lambda: len(asked) > 50 or failures)
                asked.clear()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures
        assert server.log().count("changed the instances of '%s' in place" % model) >= 6
        client.close()


def infer_zeros(client, model, tensors):
    inputs = []
    for tensor in tensors:
        dims = [1, *(max(1, int(dim)) for dim in tensor["dims"])]
        kind = tensor["data_type"].replace("TYPE_", "")
        made = httpclient.InferInput(tensor["name"], dims, kind)
        made.set_data_from_numpy(np.zeros(dims, {"FP32": np.float32, "INT64": np.int64}[kind]))
        inputs.append(made)
    return client.infer(model, inputs)


def test_sequences_stay_where_they_are(tmp_path):
    """A sequence ends at its instance though that is to go; others go elsewhere."""
    more = group(2) + " sequence_batching { max_sequence_idle_microseconds: 60000000 }"
    python_model(tmp_path, "slow", SLOW, dims="[ 1 ]", max_batch_size=1, more=more)
    with Server(tmp_path, *FLAGS) as server:
        client = httpclient.InferenceServerClient(server.url)

        def step(sequence, **flags):
            answer = client.infer("slow", [negative(1.0)], sequence_id=sequence, **flags)
            return answer.as_numpy("OUT")[0, 0]

        homes = {sequence: step(sequence, sequence_start=True) for sequence in (1, 2)}
        assert len(set(homes.values())) == 2
        text = config("python", dims="[ 1 ]", max_batch_size=1, more=more.replace("count: 2", "count: 1"))
        (tmp_path / "slow/config.pbtxt").write_text(text)
        client.load_model("slow")
        assert "changed the instances of 'slow' in place" in server.log()
        assert {sequence: step(sequence) for sequence in (1, 2)} == homes
        assert {sequence: step(sequence, sequence_end=True) for sequence in (1, 2)} == homes
        server.wait_for(lambda: len(server.workers()) == 1)
        assert step(3, sequence_start=True, sequence_end=True) in homes.values()
        client.close()
