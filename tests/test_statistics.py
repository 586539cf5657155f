"""The statistics extension: what counts as what, compared with a real Triton's counts."""

import json
import queue

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from google.protobuf import json_format
from harness import Server, write_model
from models import config, python_model
from tritonclient.utils import InferenceServerException

ERROR_MODEL = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                if array.min() < -1:
                    raise RuntimeError("raised")
                if array.min() < 0:
                    answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("told")))
                else:
                    answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]))
            return answers
"""

DECOUPLED_MODEL = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                for number in array.flatten():
                    if number < 0:
                        error = pb_utils.TritonError("told")
                        sender.send(pb_utils.InferenceResponse(error=error))
                    else:
                        sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    python_model(repository, "errors", ERROR_MODEL, max_batch_size=0)
    decoupled = "model_transaction_policy { decoupled: true }"
    python_model(repository, "decoupled", DECOUPLED_MODEL, max_batch_size=0, more=decoupled)
    batched = "dynamic_batching { max_queue_delay_microseconds: 100 }"
    write_model(repository, "batched", config("identity", more=batched))
    ensemble = """
        platform: "ensemble"
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
        ensemble_scheduling { step [ {
          model_name: "errors" model_version: -1
          input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
        } ] }
    """
    write_model(repository, "whole", ensemble)
    with Server(repository) as running:
        yield running


def row(server, model):
    """The model's statistics over HTTP, which are those over gRPC."""
    with httpclient.InferenceServerClient(server.url) as client:
        (over_http,) = client.get_inference_statistics(model)["model_stats"]
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        (over_grpc,) = client.get_inference_statistics(model, as_json=True)["model_stats"]
    # Protobuf's JSON leaves zeros out and has large numbers as strings.
    message = json_format.ParseDict(over_http, grpcclient.service_pb2.ModelStatistics())
    again = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert json.loads(json.dumps(again)) == over_grpc
    return over_http


def ask(client, model, numbers):
    array = np.array(numbers, np.float32)
    tensor = httpclient.InferInput("IN", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return client.infer(model, [tensor])


def counts(row):
    return {name: times["count"] for name, times in row["inference_stats"].items()}


def test_an_error_that_a_model_answers_with_is_an_answer(server):
    with httpclient.InferenceServerClient(server.url) as client:
        ask(client, "errors", [1])
        for failing in ([-1], [-2]):
            with pytest.raises(InferenceServerException):
                ask(client, "errors", failing)
        for wrong in ([[1]], [[[1]]]):  # Refused, which counts nowhere.
            with pytest.raises(InferenceServerException):
                ask(client, "errors", wrong)
        ask(client, "whole", [1])
        with pytest.raises(InferenceServerException):
            ask(client, "whole", [-1])
    errors = row(server, "errors")
    assert (errors["inference_count"], errors["execution_count"]) == (4, 5)
    ran = dict.fromkeys(["queue", "compute_input", "compute_infer", "compute_output"], 4)
    nothing = {"cache_hit": 0, "cache_miss": 0}
    assert counts(errors) == {"success": 4, "fail": 1, **ran, **nothing}
    (batch,) = errors["batch_stats"]
    assert batch["batch_size"] == 1 and batch["compute_infer"]["count"] == 5
    assert errors["response_stats"] == {} and errors["memory_usage"] == []
    whole = row(server, "whole")
    assert (whole["inference_count"], whole["execution_count"]) == (1, 1)
    assert counts(whole)["success"] == counts(whole)["fail"] == 1


def test_batches_count_by_size(server):
    with httpclient.InferenceServerClient(server.url) as client:
        for rows in (1, 3, 3):
            ask(client, "batched", [[1.0]] * rows)
    batched = row(server, "batched")
    assert (batched["inference_count"], batched["execution_count"]) == (7, 3)
    sizes = [(b["batch_size"], b["compute_infer"]["count"]) for b in batched["batch_stats"]]
    assert sizes == [(1, 1), (3, 2)]
    assert batched["last_inference"] > 1_600_000_000_000


def test_responses_of_decoupled_models_count_by_position(server):
    answers = queue.Queue()
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for numbers, expected in (([1, 2], 3), ([1, -1], 3), ([1], 2)):
            tensor = grpcclient.InferInput("IN", [len(numbers)], "FP32")
            tensor.set_data_from_numpy(np.array(numbers, np.float32))
            client.async_stream_infer("decoupled", [tensor], enable_empty_final_response=True)
            for _ in range(expected):
                answers.get(timeout=30)
        client.stop_stream()
    decoupled = row(server, "decoupled")
    assert counts(decoupled)["success"] == decoupled["inference_count"] == 3
    outcomes = {
        position: [times[name]["count"] for name in ("success", "fail", "empty_response", "cancel")]
        for position, times in decoupled["response_stats"].items()
    }
    assert outcomes == {"0": [3, 0, 0, 0], "1": [1, 1, 1, 0], "2": [0, 0, 2, 0]}
    first = decoupled["response_stats"]["0"]
    assert first["compute_infer"]["count"] == 3 and first["success"]["ns"] > 0
