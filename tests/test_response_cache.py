"""The response cache: `response_cache { enable: true }` and --cache-config."""

import urllib.request

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from tritonclient.utils import InferenceServerException

COUNTING = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.runs = 0

        def execute(self, requests):
            return [self.one(request) for request in requests]

        def one(self, request):
            self.runs += 1
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            if np.any(array < 0):
                return pb_utils.InferenceResponse(error=pb_utils.TritonError("negative"))
            runs = np.full((len(array), 1), self.runs, np.int32)
            outputs = [pb_utils.Tensor("OUT", array), pb_utils.Tensor("RUNS", runs)]
            return pb_utils.InferenceResponse(outputs, parameters={"run": self.runs})
"""

CONFIG = """
    %s
    max_batch_size: 8
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [
      { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] },
      { name: "RUNS" data_type: TYPE_INT32 dims: [ 1 ] }
    ]
    response_cache { enable: true }
"""

ONE_STEP = """
    platform: "ensemble"
    ensemble_scheduling {
      step [ {
        model_name: "counting" model_version: -1
        input_map { key: "IN" value: "IN" }
        output_map [ { key: "OUT" value: "OUT" }, { key: "RUNS" value: "RUNS" } ]
      } ]
    }
"""


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path, "counting", CONFIG % 'backend: "python"', {"model.py": COUNTING})
    write_model(tmp_path, "ensemble", CONFIG % ONE_STEP)
    return tmp_path


@pytest.fixture
def client(repository):
    with Server(repository, "--cache-config=local,size=1000000") as server:
        yield httpclient.InferenceServerClient(server.url)


def ask(client, values, outputs=None, model="counting", **options):
    array = np.array([values], np.float32)
    tensor = httpclient.InferInput("IN", array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    wanted = outputs and [httpclient.InferRequestedOutput(name) for name in outputs]
    return client.infer(model, [tensor], outputs=wanted, **options)


def runs(*arguments, **options):
    """In which run of the model the answer was made."""
    return int(ask(*arguments, **options).as_numpy("RUNS")[0, 0])


def statistics(client, model="counting"):
    found = client.get_inference_statistics(model)["model_stats"][0]
    counts = {key: value["count"] for key, value in found["inference_stats"].items()}
    return {"inferences": found["inference_count"], "runs": found["execution_count"], **counts}


def test_a_request_that_was_answered_before(client):
    first, second = (ask(client, [1, 2], request_id=name) for name in ("a", "b"))
    assert second.as_numpy("OUT").tolist() == first.as_numpy("OUT").tolist() == [[1, 2]]
    assert second.as_numpy("RUNS").tolist() == [[1]]
    one, other = first.get_response(), second.get_response()
    assert (one.pop("id"), other.pop("id")) == ("a", "b") and one == other
    assert runs(client, [1, 3]) == 2
    # As Triton counts.
    assert statistics(client) == {
        "inferences": 2,
        "runs": 2,
        "success": 3,
        "fail": 0,
        "queue": 3,
        "compute_input": 2,
        "compute_infer": 2,
        "compute_output": 2,
        "cache_hit": 1,
        "cache_miss": 2,
    }


def test_requests_that_ask_for_something_else_are_others(client):
    assert runs(client, [1, 2]) == 1
    assert runs(client, [1, 2], ["OUT", "RUNS"]) == 1, "these are all"
    only = ask(client, [1, 2], ["RUNS"])
    assert [output["name"] for output in only.get_response()["outputs"]] == ["RUNS"]
    assert only.as_numpy("RUNS")[0, 0] == 2
    assert runs(client, [1, 2], parameters={"mode": "other"}) == 3
    assert runs(client, [1, 2], model_version="1") == 1


def test_errors_are_not_kept(client):
    for _ in range(2):
        with pytest.raises(InferenceServerException, match="negative"):
            ask(client, [-1])
    assert statistics(client)["runs"] == 2 and statistics(client)["cache_hit"] == 0


def test_large_tensors(client):
    array = np.arange(40_000)
    assert runs(client, array) == 1
    again = ask(client, array)
    assert again.as_numpy("RUNS")[0, 0] == 1
    assert (again.as_numpy("OUT")[0] == array).all()


def test_the_oldest_leave_a_full_cache(client):
    for number in range(5):  # Of 200 kB, so that four fit.
        assert runs(client, np.full(50_000, number)) == number + 1
    assert runs(client, np.full(50_000, 4)) == 5
    assert runs(client, np.full(50_000, 0)) == 6
    assert runs(client, np.full(300_000, 1)) == 7
    assert runs(client, np.full(300_000, 1)) == 8, "larger than the cache"


def test_an_ensemble_asks_nobody(client):
    first, second = (ask(client, [1, 2], model="ensemble") for _ in range(2))
    assert second.as_numpy("RUNS").tolist() == first.as_numpy("RUNS").tolist()
    assert second.get_response()["model_name"] == "ensemble"
    assert statistics(client)["success"] == 1
    assert statistics(client, "ensemble")["cache_hit"] == 1


def test_metrics(repository):
    """Names and meanings are Triton's; its gauges of the cache itself stay at 0."""
    summaries = "--metrics-config=summary_latencies=true"
    with Server(repository, "--response-cache-byte-size=1000000", summaries) as server:
        client = httpclient.InferenceServerClient(server.url)
        assert [runs(client, [value]) for value in (1, 1, 2)] == [1, 1, 2]
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % server.metrics_port) as reply:
            page = reply.read().decode()
    for sample in (
        'nv_cache_num_hits_per_model{model="counting",version="1"} 1',
        'nv_cache_num_misses_per_model{model="counting",version="1"} 2',
        'nv_cache_hit_duration_per_model{model="counting",version="1"} ',
        'nv_cache_miss_duration_per_model{model="counting",version="1"} ',
        'nv_cache_hit_summary_per_model_count{model="counting",version="1"} 1',
        'nv_cache_miss_summary_per_model_count{model="counting",version="1"} 2',
        'nv_cache_miss_summary_per_model{model="counting",version="1",quantile="0.5"} ',
        "nv_cache_num_entries 2",
        "nv_cache_num_lookups 3",
        "nv_cache_num_hits 1",
        "nv_cache_num_misses 2",
        "nv_cache_num_evictions 0",
        "nv_cache_util 0.",
        "nv_cache_lookup_duration ",
        "nv_cache_insertion_duration ",
    ):
        assert "\n" + sample in page


def test_a_server_without_a_cache(repository):
    with Server(repository) as server:
        client = httpclient.InferenceServerClient(server.url)
        assert [runs(client, [1]) for _ in range(2)] == [1, 2]
        assert "model 'counting' asks for the response cache" in server.log()
