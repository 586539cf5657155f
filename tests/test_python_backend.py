"""Python models that work, fail, die and hang; and models that cannot be loaded."""

import http.client
import os
import signal

import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server, exit_code, write_model
from models import IDENTITY_MODEL, config, python_model
from tritonclient.utils import InferenceServerException

HEAD = """
import os, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
"""

FAILING = {
    "raises": "        raise ValueError('the sky is falling')",
    "raises_model_exception": "        raise pb_utils.TritonModelException('not today')",
    "answers_error": """
        error = pb_utils.TritonError('no such plate', pb_utils.TritonError.NOT_FOUND)
        return [pb_utils.InferenceResponse([], error) for _ in requests]
""",
    "wrong_count": "        return []",
    "returns_none": "        return None",
    "exits": "        os._exit(3)",
    "hangs": "        time.sleep(3600)",
}

BLS = """
        responses = []
        for r in requests:
            tensor = pb_utils.get_input_tensor_by_name(r, 'IN')
            for model in ('native', 'good'):
                call = pb_utils.InferenceRequest(
                    model_name=model, requested_output_names=['OUT'],
                    inputs=[pb_utils.Tensor.from_dlpack('IN', tensor.to_dlpack())])
                answer = call.exec()
                if answer.has_error():
                    raise pb_utils.TritonModelException(answer.error().message())
                tensor = pb_utils.get_output_tensor_by_name(answer, 'OUT')
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', tensor.as_numpy())]))
        return responses
"""

BLS_UNKNOWN = """
        call = pb_utils.InferenceRequest(
            model_name='nobody', requested_output_names=['OUT'], inputs=requests[0].inputs())
        answer = call.exec()
        return [pb_utils.InferenceResponse([], answer.error()) for _ in requests]
"""

# The address of a tensor in the arena, which is mapped at another place in every process.
PLACE = """
        responses = []
        for r in requests:
            from nereid_worker import current
            array = pb_utils.get_input_tensor_by_name(r, 'IN').as_numpy()
            address = array.__array_interface__['data'][0]
            offset = current.worker.codec.lent.location_of(address, array.nbytes)
            out = np.array([-1 if offset is None else offset], np.float32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', out)]))
        return responses
"""

PLACES = """
        responses = []
        for r in requests:
            tensor = pb_utils.get_input_tensor_by_name(r, 'IN')
            places = []
            for _ in range(3):
                call = pb_utils.InferenceRequest(
                    model_name='place', requested_output_names=['OUT'], inputs=[tensor])
                places.append(pb_utils.get_output_tensor_by_name(call.exec(), 'OUT').as_numpy()[0])
                call = pb_utils.InferenceRequest(
                    model_name='native_flat', requested_output_names=['OUT'], inputs=[tensor])
                tensor = pb_utils.get_output_tensor_by_name(call.exec(), 'OUT')
                tensor = pb_utils.Tensor('IN', tensor.as_numpy())
            out = np.array(places, np.float32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', out)]))
        return responses
"""


# Answers with what it was sent first.
KEEPS = """
        responses = []
        for r in requests:
            if not hasattr(self, 'first'):
                self.first = r.inputs()[0].as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', self.first.copy())]))
        return responses
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, body in FAILING.items():
        python_model(repository, name, HEAD + body)
    python_model(repository, "good", IDENTITY_MODEL)
    python_model(repository, "bls", HEAD + BLS)
    python_model(repository, "bls_unknown", HEAD + BLS_UNKNOWN)
    python_model(repository, "place", HEAD + PLACE, max_batch_size=0)
    python_model(repository, "places", HEAD + PLACES, max_batch_size=0)
    python_model(repository, "keeps", HEAD + KEEPS)
    three = "instance_group [ { count: 3 kind: KIND_CPU } ]"
    python_model(repository, "three", IDENTITY_MODEL, more=three)
    write_model(repository, "native", config("identity"))
    write_model(repository, "native_flat", config("identity", max_batch_size=0))
    with Server(repository) as running:
        yield running
        assert running.stop() == 0


def infer(server, model, array=None):
    array = np.ones((1, 4), np.float32) if array is None else array
    tensor = httpclient.InferInput("IN", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    client = httpclient.InferenceServerClient(server.url)
    return client.infer(model, [tensor]).as_numpy("OUT")


def refusal(server, model):
    with pytest.raises(InferenceServerException) as raised:
        infer(server, model)
    assert np.array_equal(infer(server, "good"), np.ones((1, 4)))
    return raised.value


def test_an_exception_reaches_client_and_log(server):
    error = refusal(server, "raises")
    assert error.status() == "500"
    assert "ValueError: the sky is falling" in error.message()
    assert "model.py" in error.message()
    server.wait_for(lambda: "Traceback" in server.log())


def test_other_failures_of_execute(server):
    assert "not today" in refusal(server, "raises_model_exception").message()
    error = refusal(server, "answers_error")
    assert (error.status(), error.message()) == ("404", "no such plate")
    assert "Number of InferenceResponse objects" in refusal(server, "wrong_count").message()
    assert "Expected a list" in refusal(server, "returns_none").message()


def test_a_worker_that_exits_is_started_again(server):
    for _ in range(2):
        error = refusal(server, "exits")
        assert "exited with code 3" in error.message()


def test_a_killed_worker_is_started_again(tmp_path):
    python_model(tmp_path, "good", IDENTITY_MODEL)
    python_model(tmp_path, "other", IDENTITY_MODEL)
    with Server(tmp_path) as server:
        for _ in range(3):
            before = set(server.workers())
            os.kill(min(before), signal.SIGKILL)
            server.wait_for(lambda: len(set(server.workers()) - before) == 1)
            for model in ("good", "other"):
                assert np.array_equal(infer(server, model), np.ones((1, 4)))


def test_a_client_that_hangs_up_harms_nobody(server):
    body = b'{"inputs":[{"name":"IN","shape":[1,1],"datatype":"FP32","data":[1]}]}'
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v2/models/hangs/infer", body)
    connection.close()
    assert np.array_equal(infer(server, "good"), np.ones((1, 4)))


def test_calls_of_other_models(server):
    for shape in ((1, 4), (2, 60000)):
        array = np.random.default_rng(0).random(shape, np.float32)
        assert np.array_equal(infer(server, "bls", array), array)
    error = refusal(server, "bls_unknown")
    assert error.message() == (
        "Model nobody - Error when running inference: Failed for execute the inference request. "
        "Model 'nobody' is not ready."
    )


def test_large_tensors_pass_models_by_reference(server):
    """A tensor of 6 MB keeps its place in shared memory through a pipeline of six calls."""
    array = np.zeros(1500000, np.float32)
    places = infer(server, "places", array)
    assert places[0] >= 0 and (places == places[0]).all()


def test_an_input_that_a_model_keeps_is_not_written_over(server):
    first = np.full((1, 60000), 7, np.float32)
    for value in (7, 1, 2, 3):
        assert np.array_equal(infer(server, "keeps", first * 0 + value), first)


def test_several_instances(server):
    for _ in range(12):
        assert np.array_equal(infer(server, "three"), np.ones((1, 4)))


BROKEN = {
    "syntax": "class TritonPythonModel:\n  def execute(self requests):\n    pass\n",
    "missing_module": "import no_such_package\nclass TritonPythonModel:\n  def execute(self, r): 0\n",
    "no_class": "pass\n",
    "initialize_raises": (
        "class TritonPythonModel:\n"
        "  def initialize(self, args):\n    raise RuntimeError('no weights')\n"
        "  def execute(self, r): 0\n"
    ),
}


def test_models_that_cannot_be_loaded_are_named_with_the_reason(tmp_path):
    for name, body in BROKEN.items():
        write_model(tmp_path, name, config("python"), {"model.py": body})
    write_model(tmp_path, "typo", config("identity", more="max_batchsize: 3"))
    write_model(tmp_path, "no_file", config("python"))
    write_model(tmp_path, "no_backend", config("nosuch"))
    torch = config("pytorch", max_batch_size=0)
    write_model(tmp_path, "corrupt", torch, {"model.pt": b"this is no TorchScript"})
    python_model(tmp_path, "good", IDENTITY_MODEL)
    with Server(tmp_path, "--exit-on-error=false", "--strict-readiness=false") as server:
        server.wait_for(lambda: "| typo" in server.log())
        reasons = [
            ("syntax", "SyntaxError"),
            ("missing_module", "No module named 'no_such_package'"),
            ("no_class", "no class TritonPythonModel"),
            ("initialize_raises", "RuntimeError: no weights"),
            ("no_file", "model.py is not a file"),
            ("no_backend", "unable to find backend library for backend 'nosuch'"),
            ("corrupt", "model.pt"),
        ]
        table = server.log()[server.log().index("| Model") :]
        rows = table.replace("\n|", "\x00|").split("\x00")
        for name, reason in reasons:
            (row,) = [row for row in rows if row.startswith("| %s " % name)]
            assert "UNAVAILABLE" in row and reason in row, row
        (row,) = [row for row in rows if row.startswith("| typo ")]
        assert "config.pbtxt:6:" in row and "max_batch_size" in row, row
        assert server.get("/v2/health/ready")[0] == 200
        assert np.array_equal(infer(server, "good"), np.ones((1, 4)))
    code, output = exit_code(tmp_path)
    assert code == 1 and "failed to load" in output


COMPLETING = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        print("noise on stdout")
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]})
        config.set_max_batch_size(4)
        config.set_dynamic_batching()
        return config

    def execute(self, requests):
        get = pb_utils.get_input_tensor_by_name
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", get(r, "IN").as_numpy())])
            for r in requests
        ]
"""


def test_a_model_completes_its_configuration(tmp_path):
    write_model(tmp_path, "bare", None, {"model.py": COMPLETING})
    refused = COMPLETING.replace("return config", "return 7")
    write_model(tmp_path, "refused", 'backend: "python"', {"model.py": refused})
    raising = COMPLETING.replace("return config", "raise ValueError('no idea')")
    write_model(tmp_path, "raising", 'backend: "python"', {"model.py": raising})
    with Server(tmp_path, "--exit-on-error=false") as server:
        client = httpclient.InferenceServerClient(server.url)
        completed = client.get_model_config("bare")
        assert completed["backend"] == "python" and completed["max_batch_size"] == 4
        assert completed["dynamic_batching"]["preferred_batch_size"] == [4]
        assert [i["name"] for i in completed["input"]] == ["IN"]
        sent = np.float32([[1, 2]])
        tensor = httpclient.InferInput("IN", sent.shape, "FP32")
        tensor.set_data_from_numpy(sent)
        np.testing.assert_array_equal(client.infer("bare", [tensor]).as_numpy("OUT"), sent)
        client.close()
        assert "must return a valid pb.ModelConfig object" in server.log()
        assert "ValueError: no idea" in server.log()
