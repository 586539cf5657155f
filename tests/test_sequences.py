"""Sequences of requests: slots, control inputs, the backlog, and what ends a sequence."""

import socket
import urllib.request

import numpy as np
import onnx_models
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from test_schedulers import Call, open_gate

# Answers with the process that ran it, the number of the execution, and what each request of the
# batch was given. A value of -1 holds the instance until the test opens the gate.
CONTROLLED = """
    import json, os, time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.gate = os.path.join(args["model_repository"], "gate")
            self.executions = 0

        def execute(self, requests):
            batch = [{t.name(): item(t) for t in r.inputs()} for r in requests]
            while any(row["IN"] == -1 for row in batch) and not os.path.exists(self.gate):
                time.sleep(0.005)
            self.executions += 1
            text = json.dumps([os.getpid(), self.executions, batch]).encode()
            output = pb_utils.Tensor("OUT", np.array([[text]], dtype=object))
            return [pb_utils.InferenceResponse([output]) for _ in requests]

    def item(tensor):
        array = tensor.as_numpy()
        assert array.shape == (1, 1), array.shape
        value = array.item()
        value = value.decode() if isinstance(value, bytes) else value
        return value if tensor.name() == "IN" else [value, str(array.dtype)]
"""

# Gives its request back as often as IN says, and then answers with what it saw each time.
ITERATIVE = """
    import json
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.seen = {}

        def execute(self, requests):
            return [self.step(request) for request in requests]

        def step(self, request):
            start, end, id, value = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy().item()
                for name in ("START", "END", "CORRID", "IN")
            )
            seen = [] if start else self.seen[id]
            self.seen[id] = seen + [[len(request.inputs()), start, end]]
            if len(self.seen[id]) <= value:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                return None
            text = json.dumps(self.seen.pop(id)).encode()
            output = pb_utils.Tensor("OUT", np.array([[text]], dtype=object))
            return pb_utils.InferenceResponse([output])
"""

CONFIG = """
    backend: "python"
    max_batch_size: %d
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
    instance_group [ { count: %d } ]
    sequence_batching {
      max_sequence_idle_microseconds: %d
      %s
      control_input [ %s ]
    }
"""

CONTROLS = """
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%s } ] }
"""

# A native model: its rows are slots, and the server keeps what it has added up.
ACCUMULATE = """
    backend: "onnxruntime"
    max_batch_size: 4
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } %s ]
    sequence_batching {
      %s
      control_input [
        { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, %d ] } ] },
        { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] }
      ]
      state [ {
        input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_FP32 dims: [ 1 ] %s
      } ]
    }
"""

FROM_FILE = """initial_state { name: "ten" data_type: TYPE_FP32 dims: [ 1 ] data_file: "ten" }"""

HOUR = 3_600_000_000


def controlled(
    repository, name, strategy="", slots=4, instances=1, idle_us=HOUR, corrid="UINT64", controls=None
):
    controls = CONTROLS % corrid if controls is None else controls
    config = CONFIG % (slots, instances, idle_us, strategy, controls)
    write_model(repository, name, config, {"model.py": CONTROLLED})


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    controlled(repository, "direct")
    controlled(repository, "numbers", corrid="INT32")
    for kind in ("UINT32", "INT64"):
        controlled(repository, kind.lower(), corrid=kind)
    controlled(repository, "names", corrid="STRING", strategy="oldest { }")
    controlled(repository, "spread", slots=2, instances=2)
    controlled(repository, "one_slot", slots=1)
    controlled(repository, "impatient", slots=1, idle_us=100_000)
    controlled(repository, "full", slots=1)
    controlled(repository, "hung_up", slots=1)
    # Batches of the direct strategy may have rows with nothing to run, which the model does not know.
    strategy = "iterative_sequence: true oldest { max_candidate_sequences: 4 }"
    iterative = CONFIG % (4, 1, HOUR, strategy, CONTROLS % "UINT64")
    write_model(repository, "iterative", iterative, {"model.py": ITERATIVE})
    candidates = "oldest { max_candidate_sequences: 3 max_queue_delay_microseconds: 0 }"
    controlled(repository, "oldest", strategy=candidates, controls="")
    utilization = """direct { minimum_slot_utilization: 0.75
        max_queue_delay_microseconds: 3600000000 }"""
    controlled(repository, "together", strategy=utilization, controls="")
    onnx_models.write(repository, "accumulate")
    model = (repository / "accumulate/1/model.onnx").read_bytes()
    for name, public, strategy, start, initial in [
        ("accumulate", "", "direct { }", 1, ""),
        ("public_state", ', { name: "AFTER" data_type: TYPE_FP32 dims: [ 1 ] }', "", 1, ""),
        # The model does not clear its state at a start, so that it shows what it begins with.
        ("from_file", "", "oldest { max_candidate_sequences: 2 }", 0, FROM_FILE),
    ]:
        config = ACCUMULATE % (public, strategy, start, initial)
        write_model(repository, name, config, {"model.onnx": model})
    (repository / "from_file/initial_state").mkdir()
    (repository / "from_file/initial_state/ten").write_bytes(np.float32(10).tobytes())
    return repository


@pytest.fixture(scope="module")
def server(repository):
    with Server(repository) as server:
        yield server


def call(server, model, value, sequence, start=False, end=False, **options):
    options.update(sequence_id=sequence, sequence_start=start, sequence_end=end)
    return Call(server, model, value, **options)


def run(*arguments, **options):
    return call(*arguments, **options).result()


def batch_of(result):
    return result[2]


def row(value, start, ready, end, corrid, dtype="uint64"):
    return {
        "IN": value,
        "START": [float(start), "float32"],
        "READY": [ready, "int32"],
        "END": [end, "bool"],
        "CORRID": [corrid, dtype],
    }


def test_a_direct_sequence_keeps_its_row(server):
    idle = row(0, 0, 0, False, 0)
    results = [
        run(server, "direct", 1, 50, start=True),
        run(server, "direct", 2, 51, start=True),
        run(server, "direct", 3, 51),
        run(server, "direct", 4, 50, end=True),
        run(server, "direct", 5, 51, end=True),
        run(server, "direct", 6, 52, start=True, end=True),
    ]
    assert [batch_of(result) for result in results] == [
        [row(1, 1, 1, False, 50)],
        [idle, row(2, 1, 1, False, 51)],
        [idle, row(3, 0, 1, False, 51)],
        [row(4, 0, 1, True, 50)],
        [idle, row(5, 0, 1, True, 51)],
        [row(6, 1, 1, True, 52)],
    ]


def test_correlation_ids_have_the_type_that_the_model_wants(server):
    number = run(server, "numbers", 1, 7, start=True, end=True)
    assert batch_of(number) == [row(1, 1, 1, True, 7, "int32")]
    for kind in ("uint32", "int64"):
        number = run(server, kind, 1, 7, start=True, end=True)
        assert batch_of(number) == [row(1, 1, 1, True, 7, kind)]
    name = run(server, "names", 1, "seven", start=True, end=True)
    assert batch_of(name) == [row(1, 1, 1, True, "seven", "object")]
    text = "[request id: <id_unknown>] sequence batching control 'CORRID' data-type is '%s', "
    text += "but model '%s' expects '%s'"
    refused = run(server, "numbers", 1, "seven", start=True)
    assert refused == (400, text % ("BYTES", "numbers", "INT32"))
    refused = run(server, "names", 1, 7, start=True)
    assert refused == (400, text % ("UINT64", "names", "BYTES"))


def test_what_belongs_to_no_sequence_is_refused(server):
    assert Call(server, "direct", 1).result() == (
        400,
        "inference request to model 'direct' must specify a non-zero or non-empty correlation ID",
    )
    unknown = (
        400,
        "inference request for sequence 99 to model 'direct' must specify the START flag on the "
        "first request of the sequence",
    )
    assert run(server, "direct", 1, 99) == unknown
    run(server, "direct", 1, 99, start=True, end=True)
    assert run(server, "direct", 1, 99) == unknown, "it has ended"
    assert Call(server, "direct", 1, rows=2, sequence_id=5, sequence_start=True).result() == (
        400,
        "inference request to model 'direct' must specify batch-size 1 due to requirements of "
        "sequence batcher",
    )


def test_sequences_stay_with_their_instance(server):
    processes = {}
    for step in range(5):
        for sequence in (1, 2, 3, 4):
            result = run(server, "spread", step, sequence, start=step == 0, end=step == 4)
            processes.setdefault(sequence, set()).add(result[0])
    assert all(len(pids) == 1 for pids in processes.values())
    assert len(set().union(*processes.values())) == 2, "both instances have sequences"


def test_the_backlog_waits_for_a_slot(server):
    run(server, "one_slot", 1, 1, start=True)
    waiting = [
        call(server, "one_slot", 2, 2, start=True),
        call(server, "one_slot", 3, 2, end=True),
        call(server, "one_slot", 4, 3, start=True, end=True),
    ]
    assert not waiting[0].answered(within=0.2)
    last = run(server, "one_slot", 5, 1, end=True)
    assert [last[1], *(request.result()[1] for request in waiting)] == [2, 3, 4, 5]


def test_a_timeout_ends_a_sequence_in_the_backlog(server):
    run(server, "full", 1, 1, start=True)
    expired = (503, "timeout of the corresponding sequence has been expired")
    patient = call(server, "full", 2, 3, start=True, end=True)
    hasty = call(server, "full", 2, 2, start=True, timeout=1000)
    assert hasty.result() == expired
    run(server, "full", 3, 1, end=True)
    assert batch_of(patient.result()) == [row(2, 1, 1, True, 3)]


def test_silence_ends_a_sequence(server):
    run(server, "impatient", 1, 1, start=True)
    # Gets its slot when the first has been silent for long enough, and not before.
    assert batch_of(run(server, "impatient", 2, 2, start=True, end=True)) == [
        row(2, 1, 1, True, 2)
    ]
    status, text = run(server, "impatient", 3, 1)
    assert status == 400 and "must specify the START flag" in text


def test_a_client_that_hangs_up_ends_its_sequence(server, repository):
    running = call(server, "hung_up", -1, 1, start=True)
    gone = call(server, "hung_up", 2, 1)
    heir = call(server, "hung_up", 3, 2, start=True, end=True)
    gone.connection.sock.shutdown(socket.SHUT_RDWR)
    gone.connection.close()

    def cancelled():
        label = 'model="hung_up",reason="CANCELED",version="1"'
        page = "http://127.0.0.1:%d/metrics" % server.metrics_port
        with urllib.request.urlopen(page) as reply:
            return b"nv_inference_request_failure{%s} 1" % label.encode() in reply.read()

    server.wait_for(cancelled)
    status, text = run(server, "hung_up", 5, 1)
    assert status == 400 and "must specify the START flag" in text
    open_gate(repository, "hung_up")
    assert batch_of(running.result()) == [row(-1, 1, 1, False, 1)]
    assert batch_of(heir.result()) == [row(3, 1, 1, True, 2)], "it got the slot"


def test_the_oldest_requests_of_the_candidates_run_together(server, repository):
    calls = [call(server, "oldest", -1, 1, start=True)]
    for value, sequence, start, end in [
        (2, 2, True, False),
        (3, 2, False, True),
        (4, 1, False, True),
        (5, 3, True, True),
        (6, 4, True, True),  # The fourth of three candidates.
    ]:
        calls.append(call(server, "oldest", value, sequence, start=start, end=end))
    open_gate(repository, "oldest")
    results = [request.result() for request in calls]
    batches = [[row["IN"] for row in batch_of(result)] for result in results]
    first, second = [2, 4, 5], [3, 6]
    assert batches == [[-1], first, second, first, first, second]


def test_direct_waits_for_its_slots(server):
    calls = [call(server, "together", value, value, start=True, end=True) for value in (1, 2, 3)]
    results = [request.result() for request in calls]
    assert [[row["IN"] for row in batch_of(result)] for result in results] == [[1, 2, 3]] * 3


def accumulate(server, model, value, sequence, start=False, end=False):
    """The outputs of a model that adds up, by name."""
    tensor = httpclient.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.full((1, 1), value, np.float32))
    client = httpclient.InferenceServerClient(server.url)
    result = client.infer(
        model, [tensor], sequence_id=sequence, sequence_start=start, sequence_end=end
    )
    names = [output["name"] for output in result.get_response()["outputs"]]
    return {name: result.as_numpy(name).item() for name in names}


def test_states_are_kept_between_requests(server):
    sums = {}
    for step in range(4):
        for sequence in (1, 2, 3):
            arguments = (server, "accumulate", 10**step * sequence, sequence)
            sums[sequence] = accumulate(*arguments, start=step == 0, end=step == 3)
    assert sums == {1: {"OUT": 1111}, 2: {"OUT": 2222}, 3: {"OUT": 3333}}
    assert accumulate(server, "accumulate", 5, 1, start=True, end=True) == {"OUT": 5}


def test_a_state_may_be_an_output_too(server):
    assert accumulate(server, "public_state", 1, 1, start=True) == {"OUT": 1, "AFTER": 1}
    assert accumulate(server, "public_state", 2, 1, end=True) == {"OUT": 3, "AFTER": 3}


def test_a_state_may_begin_with_a_file(server):
    assert accumulate(server, "from_file", 1, 1, start=True) == {"OUT": 11}
    assert accumulate(server, "from_file", 2, 1, start=True) == {"OUT": 12}, "begun anew"
    assert accumulate(server, "from_file", 3, 1, end=True) == {"OUT": 15}


def test_a_model_may_ask_for_its_request_again(server):
    calls = [Call(server, "iterative", times) for times in (2, 0, 1)]
    first, again = [5, 1.0, False], [5, 0.0, False]
    assert [call.result() for call in calls] == [[first, again, again], [first], [first, again]]
