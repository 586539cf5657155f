"""Clients that go away and deadlines that pass: seen in queues, and in the models that run."""

import http.client
import json
import socket
import urllib.request

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from harness import Server, write_model
from models import config
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

# Says in files of its folder what it does: `begun` when it has a request, `ran` with all inputs that
# it was given. It answers once `open` exists, and says `cancelled` if it is told so before.
GATE_MODEL = """
    import json, os, time
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.folder = json.loads(args["model_config"])["parameters"]["folder"]["string_value"]

        def note(self, name, text=""):
            with open(os.path.join(self.folder, name), "a") as file:
                file.write(text)

        def execute(self, requests):
            (request,) = requests
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            self.note("ran", "%d " % value[0])
            self.note("begun")
            while not os.path.exists(os.path.join(self.folder, "open")):
                if request.is_cancelled():
                    self.note("cancelled")
                    break
                time.sleep(0.002)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)])]
"""


class Gate:
    def __init__(self, folder):
        self.folder = folder

    def is_there(self, name):
        return (self.folder / name).exists()

    def open(self):
        (self.folder / "open").touch()

    def ran(self):
        """The inputs of all requests that have reached the model, in order."""
        return [int(number) for number in (self.folder / "ran").read_text().split()]


@pytest.fixture
def gate(tmp_path):
    folder = tmp_path / "gate"
    folder.mkdir()
    return Gate(folder)


@pytest.fixture
def server(tmp_path, gate):
    repository = tmp_path / "models"
    folder = 'parameters { key: "folder" value { string_value: "%s" } }' % gate.folder
    queue = folder + """
        dynamic_batching {
          default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 600000000 }
        }
    """
    gated = config("python", "INT32", "[ 1 ]", 0, folder)
    write_model(repository, "gate", gated, {"model.py": GATE_MODEL})
    queued = config("python", "INT32", "[ -1 ]", 1, queue)
    body = GATE_MODEL.replace("value[0]", "value[0][0]")
    write_model(repository, "queued", queued, {"model.py": body})
    with Server(repository) as running:
        yield running
        gate.open()


def body(number, shape=(1,), **parameters):
    tensor = {"name": "IN", "shape": shape, "datatype": "INT32", "data": [number]}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def ask(server, model, number, shape=(1,), **parameters):
    """A connection on which a request is under way."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v2/models/%s/infer" % model, body(number, shape, **parameters))
    return connection


def message(model, number, shape=(1,)):
    made = messages.ModelInferRequest(model_name=model)
    made.inputs.add(name="IN", datatype="INT32", shape=shape)
    made.raw_input_contents.append(np.int32([number]).tobytes())
    return made


def test_a_running_model_is_told_that_an_http_client_has_gone(server, gate):
    connection = ask(server, "gate", 1)
    server.wait_for(lambda: gate.is_there("begun"))
    connection.close()
    server.wait_for(lambda: gate.is_there("cancelled"))


@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_a_running_model_is_told_that_a_call_has_ended(server, gate, end):
    with grpc.insecure_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer.future(message("gate", 1), timeout=1 if end == "deadline" else None)
        server.wait_for(lambda: gate.is_there("begun"))
        if end == "cancel":
            call.cancel()
        server.wait_for(lambda: gate.is_there("cancelled"))


def test_a_stream_that_is_cancelled_cancels_its_requests(server, gate):
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: None)
        tensor = grpcclient.InferInput("IN", [1], "INT32")
        tensor.set_data_from_numpy(np.int32([1]))
        client.async_stream_infer("gate", [tensor])
        server.wait_for(lambda: gate.is_there("begun"))
        client.stop_stream(cancel_requests=True)
        server.wait_for(lambda: gate.is_there("cancelled"))


def test_generate_is_cancelled_too(server, gate):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v2/models/gate/generate_stream", b'{"IN":1}')
    server.wait_for(lambda: gate.is_there("begun"))
    connection.close()
    server.wait_for(lambda: gate.is_there("cancelled"))


def statistics(server, model):
    status, text = server.get("/v2/models/%s/stats" % model)
    assert status == 200
    return json.loads(text)["model_stats"][0]["inference_stats"]


def pending(server, model):
    """How many requests wait in the queue."""
    sample = 'nv_inference_pending_request_count{model="%s",version="1"} ' % model
    with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % server.metrics_port) as reply:
        return int(reply.read().decode().split(sample)[1].split()[0])


def test_who_has_gone_from_the_queue_does_not_run(server, gate):
    """Those that wait whose clients go are taken out at once, while the model still runs."""
    many = [ask(server, "queued", number, (1, 1)) for number in range(40)]
    server.wait_for(lambda: gate.is_there("begun") and pending(server, "queued") == 39)
    first = gate.ran()
    [running] = [connection for number, connection in enumerate(many) if number in first]
    for connection in many:
        if connection is not running:
            connection.close()
    server.wait_for(lambda: pending(server, "queued") == 0)
    assert statistics(server, "queued")["fail"]["count"] == 39
    last = ask(server, "queued", 99, (1, 1))
    gate.open()
    assert json.loads(last.getresponse().read())["outputs"][0]["data"] == [99]
    assert gate.ran() == [*first, 99]


def test_the_timeout_of_a_request_ends_its_waiting(server, gate):
    first = [ask(server, "queued", number, (1, 1)) for number in range(20)]
    server.wait_for(lambda: gate.is_there("begun"))
    late = ask(server, "queued", 77, (1, 1), timeout=1000)
    reply = late.getresponse()
    assert reply.status == 503
    assert json.loads(reply.read()) == {"error": "Request timeout expired"}
    gate.open()
    assert all(json.loads(one.getresponse().read())["outputs"] for one in first)
    assert 77 not in gate.ran()


def test_the_stock_client_sees_its_own_timeout(server, gate):
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        tensor = grpcclient.InferInput("IN", [1], "INT32")
        tensor.set_data_from_numpy(np.int32([1]))
        with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
            client.infer("gate", [tensor], client_timeout=0.3)
    server.wait_for(lambda: gate.is_there("cancelled"))


def frame(kind, stream, payload=b""):
    """A frame of HTTP/2."""
    return b"%s%c\0%s%s" % (len(payload).to_bytes(3), kind, stream.to_bytes(4), payload)


def test_a_call_that_is_taken_back_before_it_began_hurts_no_other(server):
    """grpcio resets the stream of a call that is cancelled in the moment it is made, though it has not
    sent its headers: the connection, and the other calls on it, live on."""
    settings, reset, ping, go_away = 4, 3, 6, 7
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=60) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings, 0))
        connection.sendall(frame(reset, 1, b"\0\0\0\x08") + frame(ping, 0, b"8 bytes."))
        reader, kinds = connection.makefile("rb"), []
        while ping not in kinds:
            head = reader.read(9)
            assert len(head) == 9, kinds
            reader.read(int.from_bytes(head[:3]))
            kinds.append(head[3])
    assert go_away not in kinds
