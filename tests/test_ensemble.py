"""Ensembles: graphs of models."""

import threading

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from models import chain, config, ensemble, python_model
from tritonclient.utils import InferenceServerException

ARITHMETIC = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                arrays = [tensor.as_numpy() for tensor in request.inputs()]
                if np.any(arrays[0] < 0):
                    raise ValueError("negative")
                outputs = [pb_utils.Tensor("OUT", %s)]
                responses.append(pb_utils.InferenceResponse(outputs))
            return responses
"""

ADD = """
    backend: "python"
    max_batch_size: 8
    input [
      { name: "A" data_type: TYPE_FP32 dims: [ 2 ] },
      { name: "B" data_type: TYPE_FP32 dims: [ 2 ] }
    ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""


def build(repository):
    fp32 = {"dims": "[ 2 ]"}
    python_model(repository, "twice", ARITHMETIC % "arrays[0] * 2", **fp32)
    python_model(repository, "next", ARITHMETIC % "arrays[0] + 1", **fp32)
    add = ARITHMETIC % "arrays[0] + arrays[1]"
    write_model(repository, "add", ADD, {"model.py": add})
    write_model(repository, "same", config("identity", dims="[ 2 ]"))
    write_model(repository, "line", chain("twice", "next"))
    diamond = ensemble(
        [
            ("add", -1, {"A": "x", "B": "y"}, {"OUT": "OUT"}),
            ("twice", 1, {"IN": "IN"}, {"OUT": "x"}),
            ("next", -1, {"IN": "IN"}, {"OUT": "y"}),
        ],
        outputs=("OUT", "x"),
    )
    write_model(repository, "diamond", diamond)
    write_model(repository, "nested", chain("line", "line", "same"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    build(repository)
    with Server(repository) as running:
        yield running


@pytest.fixture
def client(server):
    client = httpclient.InferenceServerClient(server.url)
    yield client
    client.close()


def ask(client, model, value, rows=1, **options):
    tensor = httpclient.InferInput("IN", [rows, 2], "FP32")
    tensor.set_data_from_numpy(np.full((rows, 2), value, np.float32))
    return client.infer(model, [tensor], **options)


@pytest.mark.parametrize("model, expected", [("line", 7), ("diamond", 10), ("nested", 15)])
def test_tensors_pass_from_step_to_step(client, model, expected):
    got = ask(client, model, 3, rows=2).as_numpy("OUT")
    np.testing.assert_array_equal(got, np.full((2, 2), expected, np.float32))


def test_the_answer_is_the_ensembles(client):
    answer = ask(client, "line", 3, request_id="seven", sequence_id=5, sequence_start=True)
    response = answer.get_response()
    assert (response["model_name"], response["id"]) == ("line", "seven")
    assert response["parameters"] == {
        "sequence_id": 5,
        "sequence_start": True,
        "sequence_end": False,
    }


def counts(client, model):
    return client.get_inference_statistics(model)["model_stats"][0]["inference_count"]


def test_only_what_is_asked_for_is_computed(client):
    before = counts(client, "add"), counts(client, "diamond")
    wanted = [httpclient.InferRequestedOutput("x")]
    response = ask(client, "diamond", 3, outputs=wanted)
    assert response.as_numpy("x")[0, 0] == 6 and response.as_numpy("OUT") is None
    assert (counts(client, "add"), counts(client, "diamond")) == (before[0], before[1] + 1)


def test_statistics_of_the_ensemble_and_its_steps(client):
    before = counts(client, "line"), counts(client, "twice")
    ask(client, "line", 1, rows=3)
    assert (counts(client, "line"), counts(client, "twice")) == (before[0] + 3, before[1] + 3)
    stats = client.get_inference_statistics("line")["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] == stats["execution_count"]


def test_an_error_of_a_step_names_the_ensemble(client):
    with pytest.raises(InferenceServerException) as caught:
        ask(client, "nested", -1)
    assert caught.value.message().startswith("in ensemble 'nested', in ensemble 'line', ")
    assert "ValueError: negative" in caught.value.message()
    assert ask(client, "line", 1).as_numpy("OUT")[0, 0] == 3


def test_its_configuration_and_metadata(client):
    config = client.get_model_config("line")
    assert (config["platform"], config["backend"]) == ("ensemble", "")
    assert config["instance_group"] == [] and "optimization" not in config
    step = config["ensemble_scheduling"]["step"][0]
    assert (step["model_name"], step["input_map"]) == ("twice", {"IN": "IN"})
    assert client.get_model_metadata("line")["inputs"][0]["shape"] == [-1, 2]


WRONG = {
    "missing": (chain("twice", "nobody"), "contains models that are not available or ambiguous: nobody"),
    "broken_member": (
        chain("twice", "broken"),
        "depends on 'broken' which has no loaded version. Model 'broken' loading failed with error: "
        "version 1 is at UNAVAILABLE state: Internal: ",
    ),
    "version": (
        ensemble([("twice", 7, {"IN": "IN"}, {"OUT": "OUT"})]),
        "depends on 'twice' whose required version 7 is not loaded.",
    ),
    "circle_a": (chain("circle_b"), "circular dependency between ensembles: circle_a -> ... -> circle_b"),
    "circle_b": (chain("circle_a"), "circular dependency between ensembles: circle_b -> ... -> circle_a"),
    "types": (
        chain("twice", "whole"),
        "ensemble tensor t0: inconsistent data type: TYPE_FP32 is inferred from model twice while "
        "TYPE_INT32 is inferred from model whole",
    ),
    "shapes": (
        chain("twice", "three"),
        "ensemble tensor t0: inconsistent shape: [-1,2] is inferred from model twice while [-1,3] "
        "is inferred from model three",
    ),
    "stray": (
        ensemble([("twice", -1, {"X": "IN"}, {"OUT": "OUT"})]),
        "ensemble tensor IN is mapping to non-existing input X in model twice",
    ),
    "unmapped": (
        ensemble([("add", -1, {"A": "IN"}, {"OUT": "OUT"})]),
        "input B in model add is not mapped to any ensemble tensors",
    ),
}


def test_what_does_not_fit_together_is_refused(tmp_path):
    build(tmp_path)
    python_model(tmp_path, "broken", "raise ValueError('no')")
    write_model(tmp_path, "whole", config("identity", "INT32", "[ 2 ]"))
    write_model(tmp_path, "three", config("identity", dims="[ 3 ]"))
    write_model(tmp_path, "unbatched", config("identity", dims="[ 2 ]", max_batch_size=0))
    write_model(tmp_path, "mixed", chain("twice", "unbatched"))
    for name, (text, _) in WRONG.items():
        write_model(tmp_path, name, text)
    with Server(tmp_path, "--exit-on-error=false") as server:
        client = httpclient.InferenceServerClient(server.url)
        rows = {row["name"]: row for row in client.get_model_repository_index()}
        for name, (_, reason) in WRONG.items():
            assert rows[name]["state"] == "UNAVAILABLE"
            assert reason in rows[name]["reason"], rows[name]
        assert rows["mixed"]["state"] == rows["nested"]["state"] == "READY"
        client.close()


def test_members_come_and_go_with_their_ensemble(tmp_path):
    build(tmp_path)
    with Server(tmp_path, "--model-control-mode=explicit", "--load-model=next") as server:
        client = httpclient.InferenceServerClient(server.url)
        ready = lambda: {row["name"] for row in client.get_model_repository_index() if row.get("state") == "READY"}
        client.load_model("nested")
        assert ready() == {"next", "twice", "same", "line", "nested"}
        client.unload_model("twice")
        assert ready() == {"next", "same"}
        client.load_model("twice")
        assert ready() == {"next", "twice", "same", "line", "nested"}
        assert ask(client, "nested", 3).as_numpy("OUT")[0, 0] == 15
        client.unload_model("nested", unload_dependents=True)
        assert ready() == {"next", "twice"}, "these two were asked for by name"
        client.close()


# Says how many of its instances run at this moment: each holds a file while it does.
CROWD = """
    import os, time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.folder = os.path.join(args["model_repository"], "running")
            os.makedirs(self.folder, exist_ok=True)
            self.file = os.path.join(self.folder, args["model_instance_name"])

        def execute(self, requests):
            open(self.file, "w").close()
            time.sleep(0.01)
            count = len(os.listdir(self.folder))
            os.unlink(self.file)
            array = np.full((1, 2), count, np.float32)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]) for _ in requests]
"""


def test_a_limit_holds_for_all_requests_together(tmp_path):
    """`max_inflight_requests`: of each step, whoever it is for."""
    more = "instance_group [ { count: 4 } ]"
    python_model(tmp_path, "crowd", CROWD, dims="[ 2 ]", more=more)
    limited = chain("crowd").replace("ensemble_scheduling {", "ensemble_scheduling { max_inflight_requests: 2")
    write_model(tmp_path, "limited", limited)
    with Server(tmp_path) as server:
        seen = []

        def client():
            with httpclient.InferenceServerClient(server.url) as client:
                for _ in range(5):
                    tensor = httpclient.InferInput("IN", [1, 2], "FP32")
                    tensor.set_data_from_numpy(np.zeros((1, 2), np.float32))
                    seen.append(client.infer("limited", [tensor]).as_numpy("OUT")[0, 0])

        clients = [threading.Thread(target=client) for _ in range(6)]
        [client.start() for client in clients]
        [client.join() for client in clients]
    assert len(seen) == 30 and max(seen) <= 2, seen
