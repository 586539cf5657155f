"""What Python models are given and may use, against the binary: folders and imports, `finalize`,
parameters of responses, log levels, options of Triton's backend, wishes for GPU memory.

The rest of the Python backend, feature by feature:

- `execute` and what it returns, arguments of `initialize`, requests as received and as built,
  responses, senders, errors, tensors, helper functions, constants, `ModelConfig`, BLS and response
  iterators: the same models on Triton and here, `test_python_golden.py`
- `auto_complete_config`: `test_python_backend.py`; `is_ready`, metrics, `load_model` and its kin, calls
  that lead back: `test_python_control.py`
- processes that die, hang or cannot start: `test_python_faults.py`; tensors of 2 GiB and larger than
  memory: `test_python_large.py`
- decoupled calls, priorities and deadlines of calls: `test_python_calls.py`; `is_cancelled`:
  `test_cancellation.py`; traces: `test_trace.py`; release flags: `test_sequences.py`
- environments, backends written in Python: `test_python_environments.py`
- DLPack, BF16, odd shapes, every interpreter: `backends/python/worker/tests`
"""

import json
import textwrap

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import Server, write_model
from models import IDENTITY_MODEL, config, python_model
from test_python_backend import infer

HEAD = """
import json, os
import numpy as np
import triton_python_backend_utils as pb_utils

def out(*values):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.float32([values]))])

class TritonPythonModel:
"""
LOGS = """
    def execute(self, requests):
        L = pb_utils.Logger
        for level in (L.INFO, L.WARNING, L.ERROR, L.VERBOSE):
            L.log("said at %s" % level, level)
        L.log_info("info"), L.log_warn("warn"), L.log_error("error"), L.log_verbose("verbose")
        print("printed")
        return [out(1) for _ in requests]
"""
PARAMETERS = """
    def execute(self, requests):
        return [self.answer(r) for r in requests]

    def answer(self, r):
        given = json.loads(r.parameters())
        tensor = pb_utils.Tensor("OUT", np.float32([[len(given)]]))
        return pb_utils.InferenceResponse([tensor], parameters={**given, "more": True, "n": 7})
"""
CALLS_PARAMETERS = """
    def execute(self, requests):
        made = pb_utils.InferenceRequest(
            model_name="parameters", inputs=requests[0].inputs(), requested_output_names=["OUT"],
            parameters={"a": "x"}, preferred_memory=pb_utils.PreferredMemory(
                pb_utils.TRITONSERVER_MEMORY_GPU, 0))
        answer = made.exec()
        assert answer.output_tensors()[0].is_cpu()
        text = pb_utils.TritonError(answer.parameters())
        return [pb_utils.InferenceResponse(error=text)]
"""
SAYS_GOOD_BYE = """
    def initialize(self, args):
        self.mark = os.path.join(args["model_repository"], "finalized")

    def execute(self, requests):
        return [out(1) for _ in requests]

    def finalize(self):
        said = []
        tensor = pb_utils.Tensor("IN", np.float32([[1]]))
        made = pb_utils.InferenceRequest(
            model_name="logs", inputs=[tensor], requested_output_names=["OUT"])
        for do in (made.exec, lambda: pb_utils.load_model("logs")):
            try:
                do()
            except Exception as error:
                said.append(str(error))
        open(self.mark, "w").write(json.dumps(said))
"""
SENDS_ON = """
    def execute(self, requests):
        try:
            answer = requests[0].exec()
            text = answer.error().message() if answer.has_error() else "answered"
        except Exception as error:
            text = "%s: %s" % (type(error).__name__, error)
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError(text))]
"""
RAISES = """
    async def execute(self, requests):
        raise ValueError("the sky is falling")
"""
IMPORTS = """
import beside, above
import triton_python_backend_utils as pb_utils
import numpy as np
import os, sys

class TritonPythonModel:
    def initialize(self, args):
        assert pb_utils.get_model_dir() == os.path.dirname(__file__)
        assert pb_utils.get_model_dir() in sys.path

    def execute(self, requests):
        tensor = pb_utils.Tensor("OUT", np.float32([[beside.NUMBER, above.NUMBER]]))
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
OPTIONS = ["shm-default-byte-size=1048576", "shm-growth-byte-size=1048576"]
OPTIONS += ["shm-region-prefix-name=x", "stub-timeout-seconds=30", "thread-pool-size=32"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def server(repository):
    force = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value: { string_value: "no" } }'
    python_model(repository, "logs", HEAD + LOGS, more=force)
    python_model(repository, "parameters", HEAD + PARAMETERS)
    python_model(repository, "calls_parameters", HEAD + CALLS_PARAMETERS)
    python_model(repository, "says_good_bye", HEAD + SAYS_GOOD_BYE)
    python_model(repository, "sends_on", HEAD + SENDS_ON)
    python_model(repository, "raises", HEAD + RAISES)
    files = {"model.py": IMPORTS, "beside.py": "NUMBER = 1\n"}
    write_model(repository, "imports", config("python"), files)
    (repository / "imports" / "above.py").write_text("NUMBER = 2\n")
    odd = {"odd.py": IDENTITY_MODEL}
    write_model(repository, "odd", config("python", more='default_model_filename: "odd.py"'), odd)
    flags = ["--backend-config=python,%s" % option for option in OPTIONS]
    flags += ["--log-verbose=1", "--model-control-mode=explicit", "--load-model=*"]
    with Server(repository, *flags) as running:
        yield running
        assert running.stop() == 0


def refusal(server, model):
    with pytest.raises(Exception) as raised:
        infer(server, model)
    return raised.value.message()


def test_imports_and_folders(server):
    assert infer(server, "imports").tolist() == [[1, 2]]
    assert infer(server, "odd").tolist() == [[1, 1, 1, 1]]


def test_log_levels(server):
    infer(server, "logs")
    lines = (
        ("I", "said at INFO"), ("W", "said at WARNING"), ("E", "said at ERROR"),
        ("I", "said at VERBOSE"), ("I", "info"), ("W", "warn"), ("E", "error"), ("I", "verbose"),
        ("I", "printed"),
    )
    for level, text in lines:
        server.wait_for(
            lambda: any(
                line.startswith(level) and "logs_0: %s" % text in line for line in server.lines
            ),
            limit=30,
        )


def test_parameters_of_responses(server):
    given = {"a": "x", "b": 3, "c": False}
    tensor = httpclient.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.float32([[1]]))
    client = httpclient.InferenceServerClient(server.url)
    answer = client.infer("parameters", [tensor], parameters=given)
    client.close()
    assert answer.get_response()["parameters"] == {**given, "more": True, "n": 7}
    assert answer.as_numpy("OUT").tolist() == [[3]]
    tensor = grpcclient.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.float32([[1]]))
    client = grpcclient.InferenceServerClient(server.grpc_url)
    found = client.infer("parameters", [tensor], parameters=given).get_response().parameters
    client.close()
    assert (found["a"].string_param, found["n"].int64_param) == ("x", 7)
    assert found["more"].bool_param and not found["c"].bool_param


def test_parameters_of_calls_and_a_wish_for_gpu_memory(server):
    seen = json.loads(refusal(server, "calls_parameters"))
    assert seen == {"a": "x", "more": True, "n": 7}
    server.wait_for(lambda: "GPU memory is preferred, but" in server.log(), limit=30)


def test_a_request_that_is_sent_on_as_it_came(server):
    """To the model itself, as it says: without end, so it is stopped."""
    assert "calls itself more than 64 times" in refusal(server, "sends_on")


def test_a_coroutine_that_raises(server):
    assert "ValueError: the sky is falling" in refusal(server, "raises")


def test_finalize_and_what_it_must_not_do(server, repository):
    client = httpclient.InferenceServerClient(server.url)
    client.unload_model("says_good_bye")
    client.close()
    mark = repository / "says_good_bye" / "finalized"
    server.wait_for(lambda: mark.exists() and mark.read_text(), limit=30)
    said = json.loads(mark.read_text())
    assert said[0] == "BLS is only supported during the 'execute' function."
    assert len(said) == 2


def test_triton_s_stub_beside_a_model_is_named(tmp_path):
    python_model(tmp_path, "m", IDENTITY_MODEL)
    (tmp_path / "m" / "triton_python_backend_stub").write_text(textwrap.dedent("#!/bin/false"))
    with Server(tmp_path) as server:
        assert infer(server, "m").tolist() == [[1, 1, 1, 1]]
        assert "triton_python_backend_stub is not used" in server.log()
