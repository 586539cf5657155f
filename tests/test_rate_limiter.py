"""The rate limiter: --rate-limit=execution_count and `rate_limiter` of instance groups."""

import threading

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model

LIMIT = "--rate-limit=execution_count"

# Writes down when it begins and ends, and takes its time in between.
RUNS = """
    import os
    import time
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            log = os.path.join(args["model_repository"], "..", "log")
            self.log = open(log, "a", buffering=1)
            self.name = args["model_name"]

        def execute(self, requests):
            self.log.write("+%s\\n" % self.name)
            time.sleep(0.002)
            self.log.write("-%s\\n" % self.name)
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(r, "IN").as_numpy())]
                )
                for r in requests
            ]
"""

CALLS = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                call = pb_utils.InferenceRequest(
                    model_name="%s", requested_output_names=["OUT"], inputs=request.inputs()
                )
                answer = call.exec()
                assert not answer.has_error(), answer.error().message()
                responses.append(pb_utils.InferenceResponse(answer.output_tensors()))
            return responses
"""


def limited_model(repository, name, body, limits, count=1):
    config = """
        backend: "python"
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
        instance_group [ { kind: KIND_CPU count: %d rate_limiter { %s } } ]
    """
    write_model(repository, name, config % (count, limits), {"model.py": body})


def resource(name, count, shared=False):
    return 'resources [ { name: "%s" count: %d global: %s } ]' % (
        name,
        count,
        str(shared).lower(),
    )


def ask(server, model):
    client = httpclient.InferenceServerClient(server.url, network_timeout=60)
    tensor = httpclient.InferInput("IN", [1], "FP32")
    tensor.set_data_from_numpy(np.array([7], np.float32))
    assert client.infer(model, [tensor]).as_numpy("OUT").tolist() == [7]
    client.close()


def ask_all(server, *models, times=8):
    """Several clients at once, each with several requests for each model."""
    failures = []

    def one():
        try:
            for _ in range(times):
                for model in models:
                    ask(server, model)
        except Exception as error:
            failures.append(error)

    clients = [threading.Thread(target=one) for _ in range(4)]
    [client.start() for client in clients]
    [client.join() for client in clients]
    assert not failures, failures


def most_at_once(log):
    running = most = 0
    for line in log.read_text().split():
        running += 1 if line[0] == "+" else -1
        most = max(most, running)
    assert running == 0
    return most


@pytest.mark.parametrize("supply, expected", [((), 1), (("--rate-limit-resource=R:2",), 2)])
def test_no_more_run_than_there_are_resources_for(tmp_path, supply, expected):
    limited_model(tmp_path, "a", RUNS, resource("R", 1), count=2)
    limited_model(tmp_path, "b", RUNS, resource("R", 1) + " priority: 2")
    with Server(tmp_path, LIMIT, *supply) as server:
        ask_all(server, "a", "b")
    assert most_at_once(tmp_path / "log") <= expected
    assert len((tmp_path / "log").read_text().split()) == 2 * 64


def test_without_the_flag_nothing_is_limited(tmp_path):
    limited_model(tmp_path, "a", RUNS, resource("R", 4))
    with Server(tmp_path, "--rate-limit-resource=R:1") as server:
        ask(server, "a")


def test_models_that_call_each_other_do_not_dead_lock(tmp_path):
    """All of them need all that there is of a resource."""
    limited_model(tmp_path, "leaf", RUNS, resource("R", 1))
    limited_model(tmp_path, "middle", CALLS % "leaf", resource("R", 1))
    limited_model(tmp_path, "top", CALLS % "middle", resource("R", 1), count=2)
    with Server(tmp_path, LIMIT) as server:
        ask_all(server, "top", "leaf", "middle", times=4)


def test_a_model_that_only_leads_others_leaves_the_limits_intact(tmp_path):
    limited_model(tmp_path, "leaf", RUNS, resource("R", 1), count=2)
    limited_model(tmp_path, "leader", CALLS % "leaf", "priority: 1", count=3)
    with Server(tmp_path, LIMIT) as server:
        ask_all(server, "leader")
    assert most_at_once(tmp_path / "log") == 1


@pytest.mark.parametrize(
    "limits, flags, reason",
    [
        (
            [resource("R", 10)],
            ["--rate-limit-resource=R:5"],
            'Resource count for "R" is limited to 5 which will prevent scheduling of one or more '
            "model instances, the minimum required count is 10",
        ),
        (
            [resource("R", 10)],
            ["--rate-limit-resource=S:5"],
            'Resource count for "R" is limited to 0 which will prevent scheduling of one or more '
            "model instances, the minimum required count is 10",
        ),
        (
            [resource("R", 1), resource("R", 1, shared=True)],
            [],
            'Resource "R" is present as both global and device-specific resource in the model '
            "configuration.",
        ),
    ],
)
def test_what_could_never_run_is_not_loaded(tmp_path, limits, flags, reason):
    for number, limit in enumerate(limits):
        limited_model(tmp_path, "m%d" % number, RUNS, limit)
    with Server(tmp_path, LIMIT, "--exit-on-error=false", *flags) as server:
        assert "Invalid argument: " + reason in server.log()
