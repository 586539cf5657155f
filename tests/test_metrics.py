"""The metrics service: Triton's names and texts, and numbers that follow what is done."""

import json
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from harness import Server, write_model
from models import IDENTITY_MODEL, config, python_model

RECORDED = Path(__file__).parent / "golden/metrics-2.51.txt"
FAILURES = ["BACKEND", "CANCELED", "OTHER", "REJECTED"]

GATED_MODEL = """
    import os, time
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.gate = os.path.join(args["model_repository"], "open")

        def execute(self, requests):
            while not os.path.exists(self.gate):
                time.sleep(0.002)
            answers = []
            for request in requests:
                array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                if array.min() < 0:
                    raise ValueError("less than nothing")
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]))
            return answers
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tagged = """
        metric_tags { key: "team" value: "plates \\"north\\"" }
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 60000 ] }
          }
        }
    """
    write_model(folder, "tagged", config("identity", more=tagged))
    queue = "dynamic_batching { default_queue_policy { max_queue_size: 2 } }"
    python_model(folder, "gated", GATED_MODEL, max_batch_size=1, more=queue)
    python_model(folder, "plain", IDENTITY_MODEL)
    write_model(
        folder,
        "whole",
        """
        platform: "ensemble"
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
        ensemble_scheduling { step [ {
          model_name: "gated" model_version: -1
          input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
        } ] }
        """.replace("dims: [ -1 ]", "dims: [ 1, -1 ]"),
    )
    return folder


def page(server):
    with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % server.metrics_port) as reply:
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        return reply.read().decode()


def samples(text):
    """Values by what stands before them."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def ask(server, model, numbers):
    """The status that a request is answered with."""
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1, len(numbers)], "data": numbers}
    request = urllib.request.Request(
        "http://%s/v2/models/%s/infer" % (server.url, model),
        json.dumps({"inputs": [tensor]}).encode(),
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_every_recorded_family_is_there(repository):
    with Server(repository, "--metrics-config=summary_latencies=true") as server:
        ours = page(server)
        missing = set(RECORDED.read_text().splitlines()) - set(ours.splitlines())
        assert not missing
        assert 'nv_inference_request_summary_us{model="plain",version="1",quantile="0.5"} NaN' in ours
        assert ask(server, "plain", [1]) == 200
        now = samples(page(server))
        assert now['nv_inference_request_summary_us_count{model="plain",version="1"}'] == 1
        assert now['nv_inference_request_summary_us{model="plain",version="1",quantile="0.999"}'] > 0


def test_numbers_follow_what_is_done(repository):
    gate = repository / "gated" / "open"
    with Server(repository) as server:
        def value(name, model="gated", more=""):
            return samples(page(server))['%s{model="%s"%s,version="1"}' % (name, model, more)]

        def failures(model="gated"):
            name = "nv_inference_request_failure"
            return [value(name, model, ',reason="%s"' % reason) for reason in FAILURES]

        assert failures() == [0, 0, 0, 0]
        answers = []
        clients = []
        for waiting in range(3):  # One runs, two wait.
            client = threading.Thread(target=lambda: answers.append(ask(server, "gated", [1])))
            client.start()
            clients.append(client)
            server.wait_for(lambda: value("nv_inference_pending_request_count") == waiting)
        assert ask(server, "gated", [1]) == 503, "the queue is full"
        assert failures() == [0, 0, 0, 1]
        gate.touch()
        for client in clients:
            client.join()
        assert answers == [200] * 3
        assert ask(server, "gated", [-1]) == 500
        assert ask(server, "whole", [-1]) == 500
        gate.unlink()

        assert failures() == [2, 0, 0, 1]
        assert failures("whole") == [0, 0, 1, 0]
        assert value("nv_inference_request_success") == 3
        assert value("nv_inference_count") == 3
        assert value("nv_inference_exec_count") == 5
        assert value("nv_inference_pending_request_count") == 0
        duration = value("nv_inference_request_duration_us")
        assert duration >= value("nv_inference_queue_duration_us") > 0
        assert value("nv_inference_request_histogram_us_count") == 3
        assert 0 < value("nv_inference_request_histogram_us_sum") <= duration + 3
        assert value("nv_model_load_duration_secs") > 0
        assert value("nv_inference_request_success", "plain") == 0


def test_labels_and_buckets_of_a_models_own(repository):
    with Server(repository, "--metrics-config=counter_latencies=false") as server:
        assert ask(server, "tagged", [1]) == 200
        text = page(server)
    labels = '_team="plates \\"north\\"",model="tagged",version="1"'
    assert "nv_inference_count{%s} 1\n" % labels in text
    name = "nv_inference_first_response_histogram_ms_bucket"
    buckets = re.findall(r'%s{%s,le="(.*)"} (\d)' % (name, re.escape(labels)), text)
    assert buckets == [("60000", "1"), ("+Inf", "1")]
    assert "_duration_us" not in text


def test_models_that_go_take_their_metrics_along(repository):
    flags = "--model-control-mode=explicit", "--load-model=tagged", "--load-model=plain"
    more = "--allow-cpu-metrics=false", "--metrics-config=histogram_latencies=false"
    with Server(repository, *flags, *more) as server:
        assert 'model="tagged"' in page(server)
        unload = "http://%s/v2/repository/models/tagged/unload" % server.url
        urllib.request.urlopen(urllib.request.Request(unload, b"")).close()
        text = page(server)
    assert 'model="tagged"' not in text and 'model="plain"' in text
    assert "nv_cpu_" not in text and "_histogram_" not in text


def test_the_service_answers_like_tritons(repository):
    with Server(repository, "--model-control-mode=explicit") as server:
        def ask(path, data=None):
            url = "http://127.0.0.1:%d%s" % (server.metrics_port, path)
            try:
                with urllib.request.urlopen(url, data) as reply:
                    return reply.status, reply.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        status, body = ask("/metrics/")
        assert status == 200 and b"nv_cpu_utilization" in body
        assert ask("/anything") == (200, b"")
        assert ask("/metrics", b"") == (405, b'{"error":"Method Not Allowed"}')
    with Server(repository, "--model-control-mode=explicit", "--allow-metrics=false") as server:
        assert server.metrics_port is None and "Metrics Service" not in server.log()
