"""Python models that call themselves, look after other models, say whether they are ready, count."""

import os
import signal
import threading
import urllib.request

import pytest
from harness import Server, write_model
from test_python_calls import CONFIG, HEAD, post, values

# Adds up all numbers from the one it is sent down to 1, by calls of `next`.
SUM = """
    def execute(self, requests):
        responses = []
        for r in requests:
            n = first(r)
            if n > 0:
                less = pb_utils.Tensor("IN", np.array([n - 1], np.int32))
                answer = call("%s", [less]).exec()
                if answer.has_error():
                    responses.append(pb_utils.InferenceResponse(error=answer.error()))
                    continue
                n += int(answer.output_tensors()[0].as_numpy()[0])
            responses.append(out(n))
        return responses
"""
SUM_ASYNC = """
    async def execute(self, requests):
        n = first(requests[0])
        if n > 0:
            less = pb_utils.Tensor("IN", np.array([n - 1], np.int32))
            answers = await asyncio.gather(*(call("sum_async", [less]).async_exec() for _ in "ab"))
            n += sum(int(a.output_tensors()[0].as_numpy()[0]) for a in answers)
        return [out(n)]
"""
ENDLESS = """
    def execute(self, requests):
        answer = call("endless", requests[0].inputs()).exec()
        return [pb_utils.InferenceResponse(error=answer.error())]
"""
LOOKS_AFTER = """
    def execute(self, requests):
        said = []
        def note(do, *arguments, **more):
            try:
                said.append(str(do(*arguments, **more)))
            except pb_utils.TritonModelException as error:
                said.append("refused: %s" % error)
        note(pb_utils.is_model_ready, "late")
        note(pb_utils.load_model, "late")
        note(pb_utils.is_model_ready, model_name="late", model_version="1")
        note(pb_utils.is_model_ready, "late", "7")
        note(pb_utils.is_model_ready, "late", "seven")
        note(pb_utils.unload_model, "late")
        note(pb_utils.is_model_ready, "late")
        note(pb_utils.load_model, "brought", config=open(CONFIG).read(), files={"file:1/model.py": FILE})
        said.append(str(first_of(call("brought", requests[0].inputs()).exec())))
        note(pb_utils.load_model, "nobody")
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("|".join(said)))]
"""
READY = """
    def initialize(self, args):
        self.folder = args["model_repository"]

    %sdef is_ready(self):
        return not os.path.exists(os.path.join(self.folder, "not_ready"))

    def execute(self, requests):
        return [out(1) for _ in requests]
"""
COUNTS = """
    def initialize(self, args):
        family = pb_utils.MetricFamily("requests_seen", "Requests that were seen", pb_utils.MetricFamily.COUNTER)
        self.seen = family.Metric(labels={"model": "counts"})
        family = pb_utils.MetricFamily("sizes_seen", "Sizes", pb_utils.MetricFamily.HISTOGRAM)
        self.sizes = family.Metric(labels={}, buckets=[1.0, 4.0])
        family = pb_utils.MetricFamily("last_seen", "Last", pb_utils.MetricFamily.GAUGE)
        self.last = family.Metric()

    def execute(self, requests):
        self.seen.increment(1)
        self.sizes.observe(2)
        self.last.set(first(requests[0]))
        refused = []
        for do in (lambda: self.seen.increment(-1), lambda: self.seen.set(1), lambda: self.sizes.value(),
                   lambda: pb_utils.MetricFamily("requests_seen", "", pb_utils.MetricFamily.GAUGE)):
            try:
                do()
            except pb_utils.TritonModelException as error:
                refused.append(str(error))
        assert len(refused) == 4, refused
        return [out(int(self.seen.value()), int(self.last.value()))]
"""


def model(repository, name, body, more=""):
    write_model(repository, name, CONFIG + more, {"model.py": HEAD + body})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    model(repository, "sum", SUM % "sum")
    model(repository, "there", SUM % "back")
    model(repository, "back", SUM % "there")
    model(repository, "sum_async", SUM_ASYNC)
    model(repository, "endless", ENDLESS)
    model(repository, "ready", READY % "")
    model(repository, "ready_async", READY % "async ")
    model(repository, "counts", COUNTS, "instance_group [ { count: 2 kind: KIND_CPU } ]")
    with Server(repository) as running:
        running.repository = repository
        yield running
        assert running.stop() == 0


def at_once(count, work):
    """Runs `work(number)` in threads; what they return."""
    results = [None] * count

    def one(number):
        results[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_a_model_with_one_instance_calls_itself(server):
    expected = [[[n * (n + 1) // 2]] for n in range(12)]
    assert at_once(12, lambda n: [values(post(server, "sum", n))]) == expected
    assert values(post(server, "sum_async", 3)) == [3 + 2 * (2 + 2 * 1)]


def test_two_models_call_each_other(server):
    answers = at_once(16, lambda n: values(post(server, ["there", "back"][n % 2], 6)))
    assert answers == [[21]] * 16


def test_a_model_that_calls_itself_without_end(server):
    status, body = post(server, "endless")
    assert status == 503 or status == 500
    assert "calls itself more than 64 times" in body["error"]
    assert values(post(server, "sum", 2)) == [3]


@pytest.mark.parametrize("name", ["ready", "ready_async"])
def test_a_model_says_whether_it_is_ready(server, name):
    path = "/v2/models/%s/ready" % name
    mark = server.repository / name / "not_ready"
    assert server.get(path)[0] == 200
    mark.touch()
    assert server.get(path)[0] == 400
    assert values(post(server, name)) == [1]
    mark.unlink()
    assert server.get(path)[0] == 200


def test_metrics_of_a_model(server):
    for number in (1, 2, 3):
        assert values(post(server, "counts", number)) == [number, number]
    page = urllib.request.urlopen("http://127.0.0.1:%d/metrics" % server.metrics_port).read().decode()
    assert "# HELP requests_seen Requests that were seen\n# TYPE requests_seen counter" in page
    assert 'requests_seen{model="counts"} 3' in page
    assert 'sizes_seen_bucket{le="4"} 3' in page and "sizes_seen_sum 6" in page
    assert "\nlast_seen 3" in page


def test_a_model_looks_after_others(tmp_path):
    model(tmp_path, "late", SUM % "late")
    brought = HEAD + "    def execute(self, requests):\n        return [out(42) for _ in requests]\n"
    config = tmp_path / "config.json"
    config.write_text(
        '{"backend": "python", "input": [{"name": "IN", "data_type": "TYPE_INT32", "dims": [-1]}],'
        ' "output": [{"name": "OUT", "data_type": "TYPE_INT32", "dims": [-1]}]}'
    )
    head = "\nCONFIG, FILE = %r, %r\n\ndef first_of(answer):\n    return answer.output_tensors()[0].as_numpy()[0]\n"
    body = head % (str(config), brought.encode()) + HEAD + LOOKS_AFTER
    write_model(tmp_path, "looks_after", CONFIG, {"model.py": body})
    with Server(tmp_path, "--model-control-mode=explicit", "--load-model=looks_after") as server:
        said = post(server, "looks_after")[1]["error"].split("|")
        assert said[:4] == ["False", "None", "True", "False"]
        assert "'seven'" in said[4]
        assert said[5:9] == ["None", "False", "None", "42"]
        assert "failed to load 'nobody'" in said[9]


def test_a_model_whose_worker_cannot_start_again_is_not_ready(tmp_path):
    mark = tmp_path / "broken"
    body = "    def initialize(self, args):\n        assert not os.path.exists(%r)\n" % str(mark)
    model(tmp_path, "m", body + (SUM % "m"))
    with Server(tmp_path) as server:
        assert server.get("/v2/models/m/ready")[0] == 200
        mark.touch()
        os.kill(server.workers("m_0")[0], signal.SIGKILL)
        server.wait_for(lambda: server.get("/v2/models/m/ready")[0] == 400)
        mark.unlink()
        server.wait_for(lambda: server.get("/v2/models/m/ready")[0] == 200)
