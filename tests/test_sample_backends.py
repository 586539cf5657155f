"""The small backends that are built in for trying out schedulers, and how to hold a scheduler back."""

import json
import queue
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import Server, write_model

DECOUPLED = "model_transaction_policy { decoupled: true }"

REPEAT = """
    backend: "repeat"
    max_batch_size: 0
    input [
      { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },
      { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },
      { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] }
    ]
    output [
      { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },
      { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }
    ]
    %s
"""

SQUARE = """
    backend: "square"
    max_batch_size: 0
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
    %s
    parameters [ %s ]
"""

SEQUENCES = """
    backend: "%s"
    max_batch_size: 4
    input [ { name: "INPUT" data_type: TYPE_%s dims: [ -1 ] } ]
    output [ { name: "OUTPUT" data_type: TYPE_%s dims: [ -1 ] } ]
    sequence_batching {
      max_sequence_idle_microseconds: 60000000
      %s
      control_input [
        { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
        { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] }
        %s
      ]
    }
    %s
"""

BY_ID = """,
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%s } ] }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "repeat_int32", REPEAT % DECOUPLED)
    write_model(repository, "square_int32", SQUARE % (DECOUPLED, ""))
    failing = """
        { key: "CUSTOM_FAIL_COUNT" value { string_value: "2" } },
        { key: "CUSTOM_EMPTY_COUNT" value { string_value: "1" } }"""
    write_model(repository, "square_failing", SQUARE % (DECOUPLED, failing))
    oldest = "oldest { max_candidate_sequences: 4 }"
    for name, *settings in [
        ("sequence", "INT32", "INT32", "direct { }", "", ""),
        ("dyna_sequence", "FP32", "FP32", oldest, BY_ID % "UINT64", ""),
        ("dyna_sequence", "INT64", "INT64", oldest, BY_ID % "STRING", ""),
        ("iterative_sequence", "INT32", "INT32", "iterative_sequence: true", BY_ID % "UINT64", DECOUPLED),
    ]:
        named = name + ("_names" if "STRING" in settings[3] else "")
        write_model(repository, named, SEQUENCES % (name, *settings))
    return repository


@pytest.fixture(scope="module")
def server(repository):
    with Server(repository) as server:
        yield server


def tensors(protocol, values):
    """Inputs from arrays by name."""
    made = []
    for name, array in values.items():
        array = np.asarray(array)
        datatype = {"i": "INT", "u": "UINT", "f": "FP"}[array.dtype.kind] + str(array.itemsize * 8)
        tensor = protocol.InferInput(name, array.shape, datatype)
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def stream(server, model, requests, **options):
    """Sends requests over one stream; the responses of each by its id, up to the last one. An error
    stands for itself."""
    answers = queue.Queue()
    responses = {str(number): [] for number in range(len(requests))}
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number, values in enumerate(requests):
            client.async_stream_infer(
                model,
                tensors(grpcclient, values),
                request_id=str(number),
                enable_empty_final_response=True,
                **options,
            )
        left = len(requests)
        while left:
            result, error = answers.get(timeout=60)
            if error is not None:
                responses["0"].append(error.message())
                left -= len(requests) == 1 and "match" in error.message()
                continue
            response = result.get_response()
            if response.outputs:
                names = [output.name for output in response.outputs]
                responses[response.id].append(
                    tuple(result.as_numpy(name).item() for name in names)
                )
            left -= response.parameters["triton_final_response"].bool_param
        client.stop_stream()
    return list(responses.values())


def repeat(values, delays, wait=0):
    return {
        "IN": np.array(values, np.int32),
        "DELAY": np.array(delays, np.uint32),
        "WAIT": np.array([wait], np.uint32),
    }


def test_repeat_answers_each_element(server):
    assert stream(server, "repeat_int32", [repeat([7, -8, 9], [0, 1, 0])]) == [
        [(7, 0), (-8, 1), (9, 2)]
    ]
    assert stream(server, "repeat_int32", [repeat([], [])]) == [[]]
    assert stream(server, "repeat_int32", [repeat([1], [1, 2])]) == [
        ["expected IN and DELAY shape to match"]
    ]


def test_requests_of_repeat_overlap(server):
    """The second is answered while the first still waits: the third response of the first comes
    only after the second request has ended."""
    slow, fast = repeat([1, 1, 1], [0, 0, 500]), repeat([2], [0])
    answers = queue.Queue()
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put(result))
        for values in (slow, fast):
            client.async_stream_infer("repeat_int32", tensors(grpcclient, values))
        order = [answers.get(timeout=60).as_numpy("OUT").item() for _ in range(4)]
        client.stop_stream()
    assert order[-1] == 1 and sorted(order) == [1, 1, 1, 2]


def test_square_answers_as_often_as_it_is_told(server):
    requests = [{"IN": np.array([count], np.int32)} for count in (3, 0, 1)]
    assert stream(server, "square_int32", requests) == [[(3,)] * 3, [], [(1,)]]


def test_decoupled_models_answer_over_http_as_events(server):
    url = "http://%s/v2/models/%%s/generate_stream" % server.url
    for model, body, expected in (
        ("square_int32", {"IN": 2}, [{"OUT": 2}] * 2),
        (
            "repeat_int32",
            {"IN": [5, 6], "DELAY": [0, 1], "WAIT": 0},
            [{"OUT": 5, "IDX": 0}, {"OUT": 6, "IDX": 1}],
        ),
    ):
        with urllib.request.urlopen(url % model, json.dumps(body).encode()) as reply:
            events = [line for line in reply.read().decode().splitlines() if line]
        got = [json.loads(event.removeprefix("data: ")) for event in events]
        assert [{name: event[name] for name in expected[0]} for event in got] == expected


def test_square_fails_where_it_is_told(server):
    [responses] = stream(server, "square_failing", [{"IN": np.array([5], np.int32)}])
    assert responses[:2] == [(5,)] * 2 and len(responses) == 4
    assert all("CUSTOM_FAIL_COUNT" in text for text in responses[2:])


def add(server, model, array, sequence, start=False, end=False):
    client = httpclient.InferenceServerClient(server.url)
    inputs = tensors(httpclient, {"INPUT": array})
    options = dict(sequence_id=sequence, sequence_start=start, sequence_end=end)
    return client.infer(model, inputs, **options).as_numpy("OUTPUT").tolist()


def test_sequence_adds_up_by_row(server):
    for sequence, factor in ((1, 1), (2, 10)):
        first = np.array([[factor, factor]], np.int32)
        assert add(server, "sequence", first, sequence, start=True) == [[2 * factor] * 2]
    for sequence, factor in ((2, 10), (1, 1)):
        last = np.array([[3 * factor]], np.int32)
        assert add(server, "sequence", last, sequence, end=True) == [[5 * factor]]


def test_dyna_sequence_adds_up_by_correlation_id(server):
    for model, datatype, sequence in (
        ("dyna_sequence", np.float32, 1000),
        ("dyna_sequence_names", np.int64, "1000"),
    ):
        first, last = (np.array([[value]], datatype) for value in (1, 2))
        assert add(server, model, first, sequence, start=True) == [[1]]
        assert add(server, model, last, sequence, end=True) == [[1003]]


def test_iterative_sequence_counts_down(server):
    requests = [{"INPUT": np.array([[count]], np.int32)} for count in (3, 1, 2)]
    assert stream(server, "iterative_sequence", requests) == [
        [(2,), (1,), (0,)],
        [(0,)],
        [(1,), (0,)],
    ]
    status, body = server.get("/v2/models/iterative_sequence/stats")
    [statistics] = json.loads(body)["model_stats"]
    assert (statistics["inference_count"], statistics["inference_stats"]["success"]["count"]) == (3, 3)


def test_what_is_not_decoupled_is_refused(tmp_path):
    write_model(tmp_path, "repeat", REPEAT % "")
    write_model(tmp_path, "square", SQUARE % ("", ""))
    with Server(tmp_path, "--exit-on-error=false") as server:
        for model in ("repeat", "square"):
            text = "models of the backend '%s' must set model_transaction_policy" % model
            assert text in server.log()


HELD = """
    backend: "identity"
    max_batch_size: 8
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
    dynamic_batching { }
"""


def test_a_scheduler_waits_until_enough_are_queued(tmp_path, monkeypatch):
    write_model(tmp_path, "held", HELD)
    monkeypatch.setenv("TRITONSERVER_DELAY_SCHEDULER", "5")
    with Server(tmp_path) as server, ThreadPoolExecutor(5) as threads:

        def ask(value):
            client = httpclient.InferenceServerClient(server.url)
            inputs = tensors(httpclient, {"IN": np.array([[value]], np.int32)})
            return client.infer("held", inputs).as_numpy("OUT").item()

        assert list(threads.map(ask, range(5))) == list(range(5))
        assert ask(6) == 6
        server.wait_for_batches("held", [1, 5])
        page = "http://127.0.0.1:%d/metrics" % server.metrics_port
        with urllib.request.urlopen(page) as reply:
            assert b'input_byte_size_counter{model="held",version="1"} 24\n' in reply.read()
