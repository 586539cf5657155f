"""Queues, priorities and orders, seen by a client of Python models that hold a gate.

A request is known to be queued before the next one is sent: the server has answered two others
meanwhile. So nothing here depends on how fast the machine is.
"""

import http.client
import json
import select
import urllib.request

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model

CLIENT = httpclient.InferenceServerClient

# Answers with the number of the execution and the values of its batch. A value of -1 holds the
# instance until the test opens the gate.
GATED = """
    import json, os, time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.gate = os.path.join(args["model_repository"], "gate")
            self.executions = 0

        def execute(self, requests):
            inputs = [pb_utils.get_input_tensor_by_name(r, "IN").as_numpy() for r in requests]
            values = [value for array in inputs for value in array[:, 0].tolist()]
            while -1 in values and not os.path.exists(self.gate):
                time.sleep(0.005)
            self.executions += 1
            text = json.dumps([self.executions, values]).encode()
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", np.array([[text]] * len(array), dtype=object))]
                )
                for array in inputs
            ]
"""

CONFIG = """
    backend: "python"
    max_batch_size: %d
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] %s } ]
    output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
    instance_group [ { count: %d } ]
    %s
"""


def gated(repository, name, scheduling, max_batch_size=1, instances=1, more_input=""):
    config = CONFIG % (max_batch_size, more_input, instances, scheduling)
    write_model(repository, name, config, {"model.py": GATED})


class Call:
    """A request that is on its way, in the bytes of the stock client."""

    def __init__(self, server, model, value, columns=1, rows=1, **options):
        tensor = httpclient.InferInput("IN", [rows, columns], "INT32")
        tensor.set_data_from_numpy(np.full((rows, columns), value, np.int32))
        body, json_size = CLIENT.generate_request_body([tensor], **options)
        self.connection = http.client.HTTPConnection(server.url, timeout=60)
        headers = {"Inference-Header-Content-Length": str(json_size)}
        self.connection.request("POST", "/v2/models/%s/infer" % model, body, headers)
        for _ in range(2):
            assert server.get("/v2/health/live")[0] == 200

    def answered(self, within):
        """Whether an answer comes within so many seconds."""
        return bool(select.select([self.connection.sock], [], [], within)[0])

    def result(self):
        """What the model said, or status and text of the error."""
        reply = self.connection.getresponse()
        data = reply.read()
        self.connection.close()
        if reply.status != 200:
            return reply.status, json.loads(data)["error"]
        header_length = int(reply.headers["Inference-Header-Content-Length"])
        result = CLIENT.parse_response_body(data, header_length=header_length)
        return json.loads(result.as_numpy("OUT").flatten()[0])


def open_gate(repository, model):
    (repository / model / "gate").touch()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    gated(
        repository,
        "priorities",
        "dynamic_batching { priority_levels: 3 default_priority_level: 2 }",
    )
    gated(
        repository,
        "full",
        """dynamic_batching { priority_levels: 2 default_priority_level: 2
             default_queue_policy { max_queue_size: 1 }
             priority_queue_policy { key: 1 value { max_queue_size: 2 } } }""",
    )
    for action in ("REJECT", "DELAY"):
        gated(
            repository,
            action.lower(),
            """dynamic_batching { default_queue_policy { timeout_action: %s
                 default_timeout_microseconds: 3600000000 allow_timeout_override: true } }"""
            % action,
        )
    gated(repository, "ordered", "dynamic_batching { preserve_ordering: true }", instances=2)
    gated(repository, "shapes", "dynamic_batching { }", max_batch_size=8)
    gated(
        repository,
        "ragged",
        "dynamic_batching { }",
        max_batch_size=8,
        more_input="allow_ragged_batch: true",
    )
    return repository


@pytest.fixture(scope="module")
def server(repository):
    with Server(repository) as server:
        yield server


def test_higher_priorities_go_first(server, repository):
    calls = [Call(server, "priorities", -1)]
    # The last two ask for a level that there is not, and so get the default.
    for value, priority in [(1, 3), (2, 2), (3, 1), (4, 0), (5, 7)]:
        calls.append(Call(server, "priorities", value, priority=priority))
    open_gate(repository, "priorities")
    order = sorted(call.result() for call in calls)
    assert [values for _, values in order] == [[-1], [3], [2], [4], [5], [1]]


def test_a_full_queue_rejects(server, repository):
    running = Call(server, "full", -1)
    waiting = [Call(server, "full", 1)]
    rejected = Call(server, "full", 2, request_id="mine").result()
    assert rejected == (503, "[request id: mine] Exceeds maximum queue size")
    waiting += [Call(server, "full", value, priority=1) for value in (3, 4)]
    rejected = Call(server, "full", 5, priority=1).result()
    assert rejected == (503, "[request id: <id_unknown>] Exceeds maximum queue size")
    open_gate(repository, "full")
    assert running.result() == [1, [-1]]
    assert [call.result() for call in waiting] == [[4, [1]], [2, [3]], [3, [4]]]


def test_a_timeout_rejects_while_the_model_is_busy(server, repository):
    running = Call(server, "reject", -1)
    patient = Call(server, "reject", 1)
    hasty = Call(server, "reject", 2, timeout=1000)
    assert hasty.result() == (503, "Request timeout expired")
    open_gate(repository, "reject")
    assert (running.result(), patient.result()) == ([1, [-1]], [2, [1]])


def test_a_timeout_delays_behind_the_others(server, repository):
    calls = [Call(server, "delay", -1), Call(server, "delay", 1, timeout=1000)]
    assert not calls[1].answered(within=0.1)
    calls.append(Call(server, "delay", 2))
    open_gate(repository, "delay")
    assert sorted(call.result() for call in calls) == [[1, [-1]], [2, [2]], [3, [1]]]


def test_answers_keep_the_order_of_requests(server, repository):
    first, second = (Call(server, "ordered", value) for value in (-1, 1))
    assert not second.answered(within=0.3), "the first has not been answered"
    open_gate(repository, "ordered")
    assert (first.result(), second.result()) == ([1, [-1]], [1, [1]])


def test_only_equal_shapes_share_a_batch(server, repository):
    calls = [Call(server, "shapes", -1)]
    for value, columns in [(1, 2), (2, 2), (3, 3), (4, 2)]:
        calls.append(Call(server, "shapes", value, columns))
    open_gate(repository, "shapes")
    got = [call.result() for call in calls]
    assert got == [[1, [-1]], [2, [1, 2]], [2, [1, 2]], [3, [3]], [4, [4]]]


def test_ragged_inputs_share_a_batch(server, repository):
    calls = [Call(server, "ragged", -1)]
    calls += [Call(server, "ragged", columns, columns) for columns in (1, 2, 3)]
    open_gate(repository, "ragged")
    assert [call.result() for call in calls[1:]] == [[2, [1, 2, 3]]] * 3


def page(server):
    """The lines of the metrics."""
    with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % server.metrics_port) as reply:
        return set(reply.read().decode().splitlines())


def test_metrics_say_how_batches_came_about(tmp_path):
    """Requests of two shapes, then more than fit, behind one that holds the instance."""
    labels = 'model="counted",version="1"'
    gated(tmp_path, "counted", "dynamic_batching { }", max_batch_size=3)
    with Server(tmp_path) as server:
        calls = [Call(server, "counted", -1)]
        calls += [Call(server, "counted", 1, columns) for columns in (2, 3, 3, 3, 3)]
        open_gate(tmp_path, "counted")
        assert [call.result()[0] for call in calls] == [1, 2, 3, 3, 3, 4]

        # The last is counted a moment after it was answered.
        server.wait_for(lambda: "nv_inference_batch_size_count{%s} 4" % labels in page(server))
        lines = page(server)
    for reason, count in [("IDLE_INSTANCE", 2), ("SHAPE", 1), ("FULL", 1), ("DELAY", 0)]:
        labelled = 'model="counted",reason="%s",version="1"' % reason
        assert "nv_inference_batch_close_count{%s} %d" % (labelled, count) in lines
    for bound, count in [("1", 3), ("2", 3), ("3", 4), ("+Inf", 4)]:
        assert 'nv_inference_batch_size_bucket{%s,le="%s"} %d' % (labels, bound, count) in lines
    assert 'nv_inference_batch_size_sum{%s} 6' % labels in lines


def test_metrics_know_the_other_reasons(tmp_path):
    """A size worth waiting for, the end of a delay, and a deadline before that end."""
    preferred = "dynamic_batching { preferred_batch_size: [ 2 ] max_queue_delay_microseconds: %d }"
    long = 3_600_000_000
    gated(tmp_path, "preferred", preferred % long, max_batch_size=4)
    gated(tmp_path, "delayed", preferred % 1000, max_batch_size=4)
    slo = ' parameters { key: "slo_ms" value { string_value: "2500" } }'
    more = "dynamic_batching { max_queue_delay_microseconds: %d }" % long
    gated(tmp_path, "urgent", more + slo, max_batch_size=2)
    with Server(tmp_path) as server:
        calls = [Call(server, "preferred", value) for value in (1, 2)]
        assert [call.result() for call in calls] == [[1, [1, 2]]] * 2
        assert Call(server, "delayed", 1).result() == [1, [1]]
        # From a full batch it is known that batches take a second.
        full = Call(server, "urgent", -1, rows=2)
        assert not full.answered(within=1)
        open_gate(tmp_path, "urgent")
        assert full.result() == [1, [-1, -1]]
        assert Call(server, "urgent", 1).result() == [2, [1]]
        lines = page(server)
    for model, reason in [("preferred", "PREFERRED"), ("delayed", "DELAY"), ("urgent", "DEADLINE")]:
        labelled = 'model="%s",reason="%s",version="1"' % (model, reason)
        assert "nv_inference_batch_close_count{%s} 1" % labelled in lines
