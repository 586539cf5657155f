"""Instance groups: how many instances there are, what they are called, and who gets requests."""

import json

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, write_model
from tritonclient.utils import InferenceServerException

NAMED = """
    import json, os
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.name = args["model_instance_name"]
            with open(os.path.join(args["model_repository"], self.name), "w") as file:
                file.write(args["model_instance_kind"])

        def execute(self, requests):
            name = np.array([self.name], dtype=object)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", name)]) for _ in requests]
"""

CONFIG = """
    backend: "python"
    max_batch_size: 0
    input [ { name: "IN" data_type: TYPE_STRING dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
    %s
"""

# Instances by name with their kinds, as a Triton server without GPUs made them.
WORKING = {
    "none": ("", {"none_0": "CPU"}),
    "auto": ("{ count: 2 }", {"auto_0_0": "CPU", "auto_0_1": "CPU"}),
    "model": ("{ kind: KIND_MODEL }", {"model_0_0": "MODEL"}),
    "zero": ("{ kind: KIND_CPU count: 0 }", {"zero_0_0": "CPU"}),
    "names": (
        '{ name: "a" kind: KIND_CPU count: 2 }, { name: "b" kind: KIND_CPU }',
        {"a_0": "CPU", "a_1": "CPU", "b_0": "CPU"},
    ),
    "passive": (
        "{ kind: KIND_CPU passive: true }, { kind: KIND_CPU }",
        {"passive_0_0": "CPU", "passive_1_0": "CPU"},
    ),
    "all_passive": ("{ kind: KIND_CPU passive: true }", {"all_passive_0_0": "CPU"}),
    "policy": ('{ kind: KIND_CPU host_policy: "p" }', {"policy_0_0": "CPU"}),
}

BROKEN = {
    "gpu": ("{ kind: KIND_GPU }", "gpu_0 of model gpu has kind KIND_GPU but no GPUs are available"),
    "gpus": (
        "{ kind: KIND_GPU gpus: [ 1 ] }",
        "instance group gpus_0 of model gpus specifies invalid or unsupported gpu id 1. GPUs with "
        "at least the minimum required CUDA compute compatibility of 6.000000 are: ",
    ),
    "cpu_gpus": (
        "{ kind: KIND_CPU gpus: [ 0 ] }",
        "instance group cpu_gpus_0 of model cpu_gpus has kind KIND_CPU but specifies one or more "
        "GPUs",
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, (groups, _) in {**WORKING, **BROKEN}.items():
        groups = groups and "instance_group [ %s ]" % groups
        write_model(repository, name, CONFIG % groups, {"model.py": NAMED})
    return repository


@pytest.fixture(scope="module")
def server(repository):
    with Server(repository, "--exit-on-error=false") as server:
        yield server


def ask(server, model):
    client = httpclient.InferenceServerClient(server.url)
    tensor = httpclient.InferInput("IN", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b""], dtype=object))
    return client.infer(model, [tensor]).as_numpy("OUT").item().decode()


@pytest.mark.parametrize("name", WORKING)
def test_instances_have_names_and_kinds(server, repository, name):
    files = [path for path in (repository / name).iterdir() if path.is_file()]
    instances = {path.name: path.read_text() for path in files if path.name != "config.pbtxt"}
    assert instances == WORKING[name][1]
    _, config = server.get("/v2/models/%s/config" % name)
    assert all(group["count"] >= 1 for group in json.loads(config)["instance_group"])


def test_passive_instances_get_no_requests(server):
    assert {ask(server, "passive") for _ in range(5)} == {"passive_1_0"}
    with pytest.raises(InferenceServerException, match="all instances of model .* are passive"):
        ask(server, "all_passive")


@pytest.mark.parametrize("name", BROKEN)
def test_what_needs_a_gpu_is_refused(server, name):
    client = httpclient.InferenceServerClient(server.url)
    index = client.get_model_repository_index()
    [reason] = [model["reason"] for model in index if model["name"] == name]
    assert BROKEN[name][1] in reason
