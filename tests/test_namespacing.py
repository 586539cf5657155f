"""`--model-namespacing`: models of one name in several repositories.

What is expected was recorded from Triton 2.51 on the same repositories, but for the paths.
"""

import json
import urllib.error
import urllib.request

import pytest
from harness import Server, write_model
from models import ADD, config

ENSEMBLE = """
    platform: "ensemble"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
    ensemble_scheduling { step [ {
        model_name: "%s" model_version: -1
        input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
    } ] }
"""
AMBIGUOUS = (
    "There are 2 identifiers of model 'dup' in global map, model namespace must be provided to "
    "resolve ambiguity."
)


def add(repository, name, number):
    write_model(repository, name, config("python", max_batch_size=0), {"model.py": ADD % number})


@pytest.fixture
def repositories(tmp_path):
    """`dup` is in two of them; ensembles name it, or a model of another repository."""
    one, two, three = (tmp_path / name for name in ("r1", "r2", "r3"))
    add(one, "dup", 1)
    add(two, "dup", 10)
    add(one, "one", 1)
    add(two, "two", 2)
    for repository, name, step in (one, "e1", "dup"), (two, "e2", "dup"), (one, "e3", "two"):
        write_model(repository, name, ENSEMBLE % step)
    write_model(three, "e4", ENSEMBLE % "dup")
    return [one, two, three]


def start(repositories, *flags):
    first, *more = repositories
    return Server(first, "--model-namespacing=true", *flags, repositories=more)


def call(server, path, body=None):
    """Status and JSON of a call."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request("http://%s%s" % (server.url, path), data)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            text = reply.read()
            return reply.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None


def infer(server, model):
    tensor = {"name": "IN", "shape": [1], "datatype": "FP32", "data": [5]}
    status, answer = call(server, "/v2/models/%s/infer" % model, {"inputs": [tensor]})
    return answer["outputs"][0]["data"] if status == 200 else (status, answer["error"])


def index(server):
    _, rows = call(server, "/v2/repository/index", {})
    return [(row["name"], row.get("state"), row.get("reason")) for row in rows]


def load(server, model, what="load"):
    return call(server, "/v2/repository/models/%s/%s" % (model, what), {})


def test_all_are_served_and_ensembles_mean_their_own(repositories):
    with start(repositories[:2]) as server:
        names = ["dup", "e1", "e3", "one", "dup", "e2", "two"]
        assert index(server) == [(name, "READY", None) for name in names]
        assert infer(server, "dup") == (400, AMBIGUOUS)
        assert [infer(server, name) for name in ("e1", "e2", "e3", "one")] == [[6], [15], [7], [6]]
        assert call(server, "/v2/models/dup") == (400, {"error": AMBIGUOUS})
        assert call(server, "/v2/models/dup/config") == (400, {"error": AMBIGUOUS})
        assert call(server, "/v2/models/dup/ready")[0] == 400
        unavailable = {"error": "requested model 'dup' is not available"}
        assert call(server, "/v2/models/dup/stats") == (400, unavailable)
        assert call(server, "/v2/models/e1")[1]["name"] == "e1"
        _, configured = call(server, "/v2/models/e1/config")
        [step] = configured["ensemble_scheduling"]["step"]
        assert (step["model_name"], step["model_namespace"]) == ("dup", str(repositories[0]))
        # Triton fails here, on the first name that is there twice.
        _, statistics = call(server, "/v2/models/stats")
        counts = [(row["name"], row["execution_count"]) for row in statistics["model_stats"]]
        assert counts == [("dup", 1), ("e1", 1), ("e3", 1), ("one", 1), ("dup", 1), ("e2", 1), ("two", 1)]
        url = "http://127.0.0.1:%d/metrics" % server.metrics_port
        page = urllib.request.urlopen(url, timeout=30).read().decode()
        line = 'nv_inference_count{model="dup",namespace="%s",version="1"} 1'
        assert line % repositories[0] in page and line % repositories[1] in page


def test_load_and_unload_are_for_all_of_a_name(repositories):
    with start(repositories, "--model-control-mode=explicit") as server:
        names = ["dup", "e1", "e3", "one", "dup", "e2", "two", "e4"]
        assert index(server) == [(name, None, None) for name in names]
        assert infer(server, "dup") == (404, "Request for unknown model: 'dup' is not found")
        assert load(server, "dup") == (200, None)
        assert [row[:2] for row in index(server) if row[0] == "dup"] == [("dup", "READY")] * 2
        assert infer(server, "dup")[1] == AMBIGUOUS
        assert [load(server, name)[0] for name in ("e1", "e2", "e3")] == [200] * 3
        e4 = "%s::e4" % repositories[2]
        assert load(server, "e4") == (400, {"error": (
            "load failed for model '%s': ensemble %s contains models that are not available or "
            "ambiguous: dup\n" % (e4, e4)
        )})
        assert [infer(server, name) for name in ("e1", "e2", "e3")] == [[6], [15], [7]]
        assert load(server, "dup", "unload")[0] == 200
        gone = lambda: [row[1:] for row in index(server) if row[0] in ("dup", "e1", "e2")]
        server.wait_for(lambda: gone() == [("UNAVAILABLE", "unloaded")] * 4, limit=30)
        status, error = infer(server, "e1")
        e1 = "%s::e1" % repositories[0]
        assert error == "Request for unknown model: '%s' has no available versions" % e1
        assert infer(server, "e3") == [7]
        status, answer = load(server, "nope")
        assert answer["error"] == "failed to load 'nope', failed to poll from model repository"


def test_polling_tells_them_apart(repositories):
    flags = "--model-control-mode=poll", "--repository-poll-secs=1"
    with start(repositories[:2], *flags) as server:
        add(repositories[1], "dup", 100)
        server.wait_for(lambda: infer(server, "e2") == [105])
        assert infer(server, "e1") == [6]


def test_auto_mode_finds_the_one_that_is_meant(repositories):
    with start(repositories[:2], "--model-control-mode=auto") as server:
        assert infer(server, "e2") == [15]
        assert infer(server, "two") == [7]
        assert infer(server, "dup")[1] == AMBIGUOUS
        assert infer(server, "e1") == [6]


def test_without_it_the_name_is_refused(repositories):
    with Server(repositories[0], "--exit-on-error=false", repositories=repositories[1:2]) as server:
        assert "model 'dup' is in several repositories" in server.log()
        assert infer(server, "one") == [6]
