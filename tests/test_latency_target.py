"""Latency targets: `parameters { key: "slo_ms" }`."""

import threading

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import Server, write_model
from tritonclient.utils import InferenceServerException

# Waits in a run until it is told to go on through a file: nothing here depends on how fast it is.
WAITS = """
    import os
    import time
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.folder = os.path.join(args["model_repository"], "..")

        def execute(self, requests):
            for request in requests:
                if pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0, 0] == 1:
                    open(os.path.join(self.folder, "waiting"), "w").close()
                    while not os.path.exists(os.path.join(self.folder, "go on")):
                        time.sleep(0.001)
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(r, "IN").as_numpy())]
                )
                for r in requests
            ]
"""

CONFIG = """
    %s
    max_batch_size: 8
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
    parameters { key: "slo_ms" value { string_value: "%s" } }
    %s
"""


def model(repository, name, slo, more="dynamic_batching {}"):
    config = CONFIG % ('backend: "python"', slo, more)
    write_model(repository, name, config, {"model.py": WAITS})


def tensor(module, value):
    found = module.InferInput("IN", [1, 1], "FP32")
    found.set_data_from_numpy(np.array([[value]], np.float32))
    return found


def ask(server, name, value=0, module=httpclient):
    url = server.url if module is httpclient else server.grpc_url
    with module.InferenceServerClient(url) as client:
        answer = client.infer(name, [tensor(module, value)])
        return answer.as_numpy("OUT")[0, 0]


class Busy:
    """Keeps a model's instance busy while the `with` block lasts."""

    def __init__(self, server, name, folder):
        self.folder, self.server = folder, server
        self.thread = threading.Thread(target=self._ask, args=(name,))

    def _ask(self, name):
        try:
            ask(self.server, name, 1)
        except InferenceServerException:
            pass  # It is late by then, which is no matter here.

    def __enter__(self):
        self.thread.start()
        self.server.wait_for((self.folder / "waiting").exists)

    def __exit__(self, *_):
        (self.folder / "go on").touch()
        self.thread.join()


def test_in_time_all_is_as_ever(tmp_path):
    model(tmp_path, "m", 10_000)
    model(tmp_path, "alone", 10_000, more="")
    with Server(tmp_path) as server:
        assert [ask(server, "m", value) for value in (3, 4)] == [3, 4]
        assert ask(server, "alone", 5) == 5


@pytest.mark.parametrize(
    "module, status", [(httpclient, "503"), (grpcclient, "StatusCode.UNAVAILABLE")]
)
def test_who_waits_too_long_is_refused_while_the_instance_is_busy(tmp_path, module, status):
    model(tmp_path, "m", 30)
    with Server(tmp_path) as server, Busy(server, "m", tmp_path):
        with pytest.raises(InferenceServerException, match="would miss its latency target") as e:
            ask(server, "m", module=module)
        assert e.value.status() == status
        found = server.get("/v2/models/m/stats")[1]
        assert b'"fail":{"count":1' in found


def test_an_ensemble_hands_on_what_is_left(tmp_path):
    """The step's own target would let it wait for a long time."""
    model(tmp_path, "m", 100_000)
    step = """
        platform: "ensemble"
        ensemble_scheduling {
          step [ {
            model_name: "m" model_version: -1
            input_map { key: "IN" value: "IN" }
            output_map { key: "OUT" value: "OUT" }
          } ]
        }
    """
    write_model(tmp_path, "e", CONFIG % (step, 30, ""))
    with Server(tmp_path) as server, Busy(server, "m", tmp_path):
        text = "in ensemble 'e', .*would miss its latency target"
        with pytest.raises(InferenceServerException, match=text):
            ask(server, "e")


CALLS = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                call = pb_utils.InferenceRequest(
                    model_name="m", requested_output_names=["OUT"], inputs=request.inputs()
                )
                answer = call.exec()
                error = answer.error() if answer.has_error() else None
                responses.append(pb_utils.InferenceResponse(answer.output_tensors(), error))
            return responses
"""


def test_a_call_inherits_what_is_left(tmp_path):
    """The target of the model that is called would let it wait for a long time."""
    model(tmp_path, "m", 100_000)
    files = {"model.py": CALLS}
    write_model(tmp_path, "caller", CONFIG % ('backend: "python"', 30, "dynamic_batching {}"), files)
    write_model(tmp_path, "patient", CONFIG % ('backend: "python"', 100_000, ""), files)
    with Server(tmp_path) as server:
        with Busy(server, "m", tmp_path):
            with pytest.raises(InferenceServerException, match="would miss its latency target"):
                ask(server, "caller")
        assert ask(server, "patient", 3) == 3


POLICY = "dynamic_batching { default_queue_policy { timeout_action: %s %s } }"


def test_queue_policies_hold_as_well(tmp_path):
    timeout = "default_timeout_microseconds: 1000 allow_timeout_override: true"
    model(tmp_path, "m", 100_000, POLICY % ("REJECT", timeout + " max_queue_size: 1"))
    with Server(tmp_path) as server, Busy(server, "m", tmp_path):
        with pytest.raises(InferenceServerException, match="Request timeout expired") as e:
            ask(server, "m")
        assert e.value.status() == "503"


def test_answers_keep_the_order_of_their_requests(tmp_path):
    """Two instances: the answer of the second request waits for that of the first."""
    more = "dynamic_batching { preserve_ordering: true } instance_group [ { count: 2 } ]"
    model(tmp_path, "m", 100_000, more)
    order = []

    def one(value):
        ask(server, "m", value)
        order.append(value)

    with Server(tmp_path) as server:
        with Busy(server, "m", tmp_path):
            later = threading.Thread(target=one, args=(5,))
            later.start()
            server.wait_for(lambda: b'"execution_count":1' in server.get("/v2/models/m/stats")[1])
            assert not order
        later.join()
    assert order == [5]


@pytest.mark.parametrize(
    "slo, more, reason",
    [
        ("soon", "", "must be a number of milliseconds above 0, got 'soon'"),
        ("0", "", "must be a number of milliseconds above 0, got '0'"),
        ("30", "sequence_batching {}", "does not go with sequence batching"),
    ],
)
def test_refused_at_load(tmp_path, slo, more, reason):
    model(tmp_path, "m", slo, more)
    with Server(tmp_path, "--exit-on-error=false") as server:
        assert "model 'm': parameter 'slo_ms' " + reason in server.log()
