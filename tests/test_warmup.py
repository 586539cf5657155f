"""Warm-up: what instances run before their model serves, and what becomes of a model whose does not."""

import json

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model

# Notes what it is given, a line for each execution, and fails where a value is 13.
NOTING = """
    import json, os
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            notes = os.path.join(args["model_repository"], args["model_instance_name"])
            self.notes = open(notes, "w", buffering=1)

        def execute(self, requests):
            batch = [{t.name(): t.as_numpy() for t in r.inputs()} for r in requests]
            note = [{name: array.tolist() for name, array in row.items()} for row in batch]
            self.notes.write(json.dumps(note, default=str) + "\\n")
            return [self.answer(request) for request in requests]

        def answer(self, request):
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            if 13 in array:
                return pb_utils.InferenceResponse(error=pb_utils.TritonError("unlucky"))
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])
"""

CONFIG = """
    backend: "python"
    max_batch_size: %d
    input [ { name: "IN" data_type: TYPE_%s dims: [ %d ] } ]
    output [ { name: "OUT" data_type: TYPE_%s dims: [ %d ] } ]
    %s
"""

SEQUENCE = """
    sequence_batching { control_input [
      { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
      { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] }
    ] }
"""

AUTOMATIC = 'parameters { key: "warmup" value { string_value: "%s" } }'


def tensor(data, name="IN", datatype="INT32", dims=2):
    return 'inputs { key: "%s" value { data_type: TYPE_%s dims: [ %d ] %s } }' % (
        name,
        datatype,
        dims,
        data,
    )


def sample(*inputs, name="a sample", batch_size=1, count=0):
    return 'model_warmup [ { name: "%s" batch_size: %d count: %d %s } ]' % (
        name,
        batch_size,
        count,
        " ".join(inputs),
    )


ZEROS, RANDOM, FILE = "zero_data: true", "random_data: true", 'input_data_file: "data"'

WORKING = {
    "zeros": dict(
        more=sample(tensor(ZEROS), batch_size=3, count=2) + "instance_group [ { count: 2 } ]"
    ),
    "random": dict(more=sample(tensor(RANDOM, datatype="FP32")), datatype="FP32"),
    "strings": dict(more=sample(tensor(ZEROS, datatype="STRING")), datatype="STRING"),
    "file": dict(more=sample(tensor(FILE), batch_size=2), file=np.array([7, 8, 9], np.int32)),
    "several": dict(more=sample(tensor(ZEROS)) + sample(tensor(FILE)), file=np.array([1, 2], np.int32)),
    "sequence": dict(more=sample(tensor(ZEROS)) + SEQUENCE),
    "told": dict(more=sample(tensor(ZEROS), tensor(ZEROS, "READY", dims=1)) + SEQUENCE),
    "every_size": dict(more=AUTOMATIC % "true", max_batch_size=3),
    "some_sizes": dict(more=AUTOMATIC % "1,4"),
    "no_batching": dict(more=AUTOMATIC % "true", max_batch_size=0),
}

BROKEN = {
    "fails": (
        dict(more=sample(tensor(FILE), batch_size=2), file=np.array([13, 0], np.int32)),
        "failed to run warmup sample 'a sample': unlucky; unlucky; ",
    ),
    "too_large": (
        dict(more=sample(tensor(ZEROS), batch_size=5)),
        "failed to run warmup sample 'a sample': batch size 5 for 'too_large', max allowed is 4; ",
    ),
    "unknown_size": (
        dict(more=sample(tensor(ZEROS, dims=-1)), dims=-1),
        "warmup setting expects all variable-size dimensions are specified for input 'IN'",
    ),
    "no_data": (
        dict(more=sample(tensor(""))),
        "warmup setting expects input 'IN' to have input_data_type set",
    ),
    "short_file": (
        dict(more=sample(tensor(FILE)), file=np.array([1], np.int32)),
        "warmup setting expects 8 bytes, but the data provided from data only has 4 bytes",
    ),
    "no_file": (dict(more=sample(tensor(FILE))), "failed to open text file for read"),
    "no_input": (dict(more=sample()), "missing required input(s) ['IN']"),
    "wrong_shape": (dict(more=sample(tensor(ZEROS, dims=3))), "Expected [-1,2], got [1,3]."),
    "automatic": (
        dict(more=AUTOMATIC % "true", dims=-1),
        "parameter 'warmup' needs inputs whose sizes are known, and 'IN' has some that only a "
        "request knows; describe a sample in model_warmup instead",
    ),
    "nonsense": (
        dict(more=AUTOMATIC % "1,9"),
        "parameter 'warmup' must be 'true', 'false' or batch sizes from 1 to 4, such as '1,4'",
    ),
}


def write(repository, name, more, datatype="INT32", dims=2, max_batch_size=4, file=None):
    config = CONFIG % (max_batch_size, datatype, dims, datatype, dims, more)
    write_model(repository, name, config, {"model.py": NOTING})
    if file is not None:
        (repository / name / "warmup").mkdir()
        (repository / name / "warmup/data").write_bytes(file.tobytes())


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, settings in WORKING.items():
        write(repository, name, **settings)
    for name, (settings, _) in BROKEN.items():
        write(repository, name, **settings)
    return repository


@pytest.fixture(scope="module")
def server(repository):
    with Server(repository, "--exit-on-error=false") as server:
        yield server


def ran(repository, name, instance="0"):
    """What an instance was given in each of its executions."""
    notes = repository / name / ("%s_%s" % (name, instance))
    return [json.loads(line) for line in notes.read_text().splitlines()]


def test_every_instance_runs_the_samples(server, repository):
    row = {"IN": [[0, 0]]}
    for instance in ("0_0", "0_1"):
        assert ran(repository, "zeros", instance) == [[row] * 3] * 2
    assert ran(repository, "several") == [[row], [{"IN": [[1, 2]]}]]


def test_data_of_all_kinds(server, repository):
    assert ran(repository, "file") == [[{"IN": [[7, 8]]}] * 2], "as many bytes as it takes"
    assert ran(repository, "strings") == [[{"IN": [["b''", "b''"]]}]]
    [[row]] = ran(repository, "random")
    assert all(1 <= value < 2 for value in row["IN"][0]) and len(set(row["IN"][0])) == 2


def test_sequences_get_their_controls(server, repository):
    row = {"IN": [[0, 0]], "START": [[1]], "READY": [[1]]}
    assert ran(repository, "sequence") == [[row]]
    assert ran(repository, "told") == [[{**row, "READY": [[0]]}]]


def test_a_parameter_asks_for_batch_sizes(server, repository):
    sizes = [len(batch) for batch in ran(repository, "every_size")]
    assert sizes == [1, 2, 3]
    assert [len(batch) for batch in ran(repository, "some_sizes")] == [1, 4]
    assert ran(repository, "no_batching") == [[{"IN": [0, 0]}]]


def test_warm_ups_do_not_count(server):
    client = httpclient.InferenceServerClient(server.url)
    [statistics] = client.get_inference_statistics("zeros")["model_stats"]
    assert (statistics["inference_count"], statistics["execution_count"]) == (0, 0)


@pytest.mark.parametrize("name", BROKEN)
def test_a_failed_warm_up_fails_the_load(server, name):
    client = httpclient.InferenceServerClient(server.url)
    reasons = {model["name"]: model.get("reason", "") for model in client.get_model_repository_index()}
    assert BROKEN[name][1] in reasons[name]
    assert not client.is_model_ready(name)
