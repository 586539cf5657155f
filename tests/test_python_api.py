"""What Python models are given and may use, against the binary: folders and imports, `finalize`,
parameters of responses, log levels, options of Triton's backend, wishes for GPU memory; what real
models do that no documentation mentions.

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
RESCHEDULES_AND_ANSWERS = """
    def execute(self, requests):
        requests[0].set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
        return [out(1)]
"""
# Asks for a sender only to look whether the request is cancelled.
SENDER_UNUSED = """
    def execute(self, requests):
        answers = []
        for request in requests:
            sender = request.get_response_sender()
            answers.append(out(sender.is_cancelled()))
        return answers
"""
SENDS_LATER = """
    def execute(self, requests):
        import threading
        sender = requests[0].get_response_sender()
        threading.Timer(0.2, self.send, (sender,)).start()
        return [out(1)]

    def send(self, sender):
        try:
            sender.send(out(2))
        except Exception as error:
            pb_utils.Logger.log_info("too late: %s" % error)
"""
# Elements of STRING tensors are bytes, and a model hands them on as they are.
BYTES_FOR_TEXT = """
    def execute(self, requests):
        assert requests[0].requested_output_names() - {"OTHER"} == {"OUT"}
        name = np.array([b"parameters"], np.object_)[0]
        made = pb_utils.InferenceRequest(
            model_name=name, request_id=b"7", requested_output_names=[b"OUT"],
            inputs=[pb_utils.Tensor(b"IN", np.float32([[1]]))])
        assert pb_utils.is_model_ready(name)
        pb_utils.Logger.log_info(b"said in bytes")
        answer = made.exec().output_tensors()[0].as_numpy().tolist()
        text = "%s %s" % (made.request_id(), answer)
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError(text.encode()))]
"""
READS_ARGUMENTS = """
    def execute(self, requests):
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--number", default=5, type=int)
        return [out(parser.parse_args().number) for _ in requests]
"""
SPAWNS = """
    def execute(self, requests):
        import multiprocessing
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return [out(*pool.map(twice, [1, 2])) for _ in requests]

def twice(number):
    return 2 * number
"""
IMPORTS = """
import beside, above
from . import types
from .beside import NUMBER
import triton_python_backend_utils as pb_utils
from c_python_backend_utils import InferenceRequest, InferenceResponse, Tensor
import numpy as np
import os, sys

class TritonPythonModel:
    def initialize(self, args):
        assert pb_utils.get_model_dir() == os.path.dirname(__file__)
        assert pb_utils.get_model_dir() in sys.path
        assert (Tensor, InferenceRequest) == (pb_utils.Tensor, pb_utils.InferenceRequest)
        import tokenize
        assert hasattr(tokenize, "open")  # Python's own
        assert __name__ == "1.model"

    def execute(self, requests) -> "list[InferenceResponse]":
        tensor = Tensor("OUT", np.float32([[beside.NUMBER, above.NUMBER, types.NUMBER, NUMBER]]))
        return [InferenceResponse([tensor]) for _ in requests]
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
    iterative = "sequence_batching { iterative_sequence: true }"
    python_model(
        repository, "reschedules", HEAD + RESCHEDULES_AND_ANSWERS, more=iterative,
        max_batch_size=0, dims="[ -1, -1 ]",
    )
    python_model(repository, "sender_unused", HEAD + SENDER_UNUSED)
    python_model(repository, "sends_later", HEAD + SENDS_LATER)
    python_model(repository, "bytes_for_text", HEAD + BYTES_FOR_TEXT)
    python_model(repository, "reads_arguments", HEAD + READS_ARGUMENTS)
    python_model(repository, "spawns", HEAD + SPAWNS)
    files = {"model.py": IMPORTS, "beside.py": "NUMBER = 1\n"}
    files.update({"types.py": "NUMBER = 3\n", "tokenize.py": "raise ImportError('not this')\n"})
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
    assert infer(server, "imports").tolist() == [[1, 2, 3, 1]]
    assert infer(server, "odd").tolist() == [[1, 1, 1, 1]]


def test_other_processes_find_what_they_are_handed(server):
    assert infer(server, "spawns").tolist() == [[2, 4]]


def test_there_are_no_arguments(server):
    assert infer(server, "reads_arguments").tolist() == [[5]]


def test_bytes_where_text_is_expected(server):
    assert refusal(server, "bytes_for_text") == "7 [[0.0]]"
    server.wait_for(lambda: "bytes_for_text_0: said in bytes" in server.log(), limit=30)


def test_a_sender_that_nothing_is_sent_by(server):
    assert infer(server, "sender_unused").tolist() == [[0]]


def test_nothing_is_sent_behind_what_was_returned(server):
    assert infer(server, "sends_later").tolist() == [[1]]
    text = "too late: Unable to send response. Response sender has been closed."
    server.wait_for(lambda: text in server.log(), limit=30)


def test_an_answer_to_a_request_that_is_to_come_again(server):
    assert "Expected a None object in the execute function" in refusal(server, "reschedules")


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
