"""The stock gRPC client against the real binary."""

import queue
import signal

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from harness import Server, exit_code, write_model
from models import IDENTITY_MODEL, config, python_model
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

DATATYPES = {
    "BOOL": (np.bool_, "bool_contents"),
    "UINT8": (np.uint8, "uint_contents"),
    "UINT16": (np.uint16, "uint_contents"),
    "UINT32": (np.uint32, "uint_contents"),
    "UINT64": (np.uint64, "uint64_contents"),
    "INT8": (np.int8, "int_contents"),
    "INT16": (np.int16, "int_contents"),
    "INT32": (np.int32, "int_contents"),
    "INT64": (np.int64, "int64_contents"),
    "FP16": (np.float16, None),
    "FP32": (np.float32, "fp32_contents"),
    "FP64": (np.float64, "fp64_contents"),
    "BYTES": (np.object_, "bytes_contents"),
}

# As many responses as the input says, with its number each; then the end. 9: one response that is
# the end. A negative number: an error.
DECOUPLED_MODEL = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

    def response(number):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([number], np.int32))])

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                count = int(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0])
                sender = request.get_response_sender()
                if count == 9:
                    sender.send(response(9), flags=FINAL)
                    continue
                if count < 0:
                    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("negative")))
                for number in range(count):
                    sender.send(response(number))
                sender.send(flags=FINAL)
"""

# Answers once the file exists that its configuration names.
GATE_MODEL = """
    import json, os, time
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.gate = json.loads(args["model_config"])["parameters"]["gate"]["string_value"]

        def execute(self, requests):
            while not os.path.exists(self.gate):
                time.sleep(0.002)
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(r, "IN").as_numpy())]
                )
                for r in requests
            ]
"""

FAILING_MODEL = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            error = pb_utils.TritonError("boom", pb_utils.TritonError.INVALID_ARG)
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
"""

# Answers with the request's parameters, and with one of its own.
PARAMETERS_MODEL = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse([
                    pb_utils.Tensor("OUT", np.array([[request.parameters()]], np.object_))
                ])
                for request in requests
            ]
"""


def gate_model(repository, gate):
    more = 'parameters { key: "gate" value { string_value: "%s" } }' % gate
    python_model(repository, "gate", GATE_MODEL, datatype="INT8", max_batch_size=0, more=more)


def decoupled_model(repository):
    more = "model_transaction_policy { decoupled: true }"
    python_model(
        repository, "many", DECOUPLED_MODEL, datatype="INT32", dims="[ 1 ]", max_batch_size=0,
        more=more,
    )


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    return tmp_path_factory.mktemp("gate") / "open"


@pytest.fixture(scope="module")
def server(tmp_path_factory, gate):
    repository = tmp_path_factory.mktemp("models")
    for datatype in DATATYPES:
        kind = "STRING" if datatype == "BYTES" else datatype
        write_model(repository, "same_" + datatype, config("identity", kind, "[ -1, 2 ]"))
    write_model(repository, "same_BF16", config("identity", "BF16"))
    python_model(repository, "python", IDENTITY_MODEL)
    python_model(repository, "batched", IDENTITY_MODEL, more="dynamic_batching { }")
    python_model(repository, "failing", FAILING_MODEL, datatype="INT8", max_batch_size=0)
    write_model(repository, "small", config("identity", "INT8", max_batch_size=0))
    write_model(
        repository,
        "told",
        """
        backend: "python"
        max_batch_size: 8
        input [ { name: "IN" data_type: TYPE_INT8 dims: [ -1 ] } ]
        output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
        """,
        {"model.py": PARAMETERS_MODEL},
    )
    write_model(
        repository,
        "pair",
        """
        backend: "identity"
        input [
          { name: "A" data_type: TYPE_FP32 dims: [ -1 ] },
          { name: "B" data_type: TYPE_INT32 dims: [ 2 ] }
        ]
        output [
          { name: "X" data_type: TYPE_FP32 dims: [ -1 ] },
          { name: "Y" data_type: TYPE_INT32 dims: [ 2 ] }
        ]
        """,
    )
    versioned = config("identity", more="version_policy { specific { versions: [ 1, 3 ] } }")
    for version in (1, 2, 3):
        write_model(repository, "versioned", versioned, version=version)
    decoupled_model(repository)
    gate_model(repository, gate)
    with Server(repository) as running:
        yield running


@pytest.fixture
def client(server):
    with grpcclient.InferenceServerClient(server.grpc_url) as connected:
        yield connected


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(server.grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def sample(datatype, shape):
    count = int(np.prod(shape))
    if datatype == "BYTES":
        words = ["", "number plate", "кириллица", "\n\"quoted\""]
        values = [words[i % len(words)].encode() for i in range(count)]
        return np.array(values, dtype=np.object_).reshape(shape)
    values = np.arange(count) % 2 if datatype == "BOOL" else np.arange(count)
    return values.astype(DATATYPES[datatype][0]).reshape(shape)


def tensor(array, datatype, name="IN"):
    made = grpcclient.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def request(model="small", data=b"ab", shape=None, datatype="INT8", id="7", version="", **more):
    """A request with one input, as the messages spell it."""
    made = messages.ModelInferRequest(model_name=model, model_version=version, id=id)
    made.inputs.add(name="IN", datatype=datatype, shape=shape or [len(data)])
    if more.get("raw", True):
        made.raw_input_contents.append(data)
    for target, parameters in (
        (made, more.get("parameters")),
        (made.inputs[0], more.get("input_parameters")),
    ):
        for key, value in (parameters or {}).items():
            target.parameters[key].CopyFrom(messages.InferParameter(**value))
    if "output" in more:
        output = made.outputs.add(name="OUT")
        for key, value in more["output"].items():
            output.parameters[key].CopyFrom(messages.InferParameter(**value))
    if "contents" in more:
        made.inputs[0].contents.CopyFrom(messages.InferTensorContents(**more["contents"]))
    return made


def many(count, **options):
    return request("many", np.int32(count).tobytes(), [1], "INT32", id="m%d" % count, **options)


# One request, one response.


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back(client, datatype):
    array = sample(datatype, (3, 4, 2))
    result = client.infer("same_" + datatype, [tensor(array, datatype)])
    assert result.as_numpy("OUT").tolist() == array.tolist()
    assert result.get_output("OUT").datatype == datatype


@pytest.mark.parametrize("datatype", [name for name, (_, field) in DATATYPES.items() if field])
def test_every_datatype_as_typed_contents(stub, datatype):
    array = sample(datatype, (1, 3, 2))
    contents = {DATATYPES[datatype][1]: array.flatten().tolist()}
    asked = request("same_" + datatype, b"", [1, 3, 2], datatype, contents=contents, raw=False)
    answer = stub.ModelInfer(asked)
    expected = grpcclient.InferInput("IN", [1, 3, 2], datatype)
    expected.set_data_from_numpy(array)
    assert answer.raw_output_contents[0] == expected._get_content()
    assert not answer.outputs[0].HasField("contents")


def test_bf16_is_raw_only(stub):
    answer = stub.ModelInfer(request("same_BF16", b"abcd", [1, 2], "BF16"))
    assert answer.raw_output_contents[0] == b"abcd"


@pytest.mark.parametrize("model", ["same_FP32", "python"])
@pytest.mark.parametrize("shape", [(1, 0), (1, 80_000), (8, 1_000_000)])
def test_empty_and_large_tensors(client, model, shape):
    shape = shape if model == "python" else shape + (2,)
    array = sample("FP32", shape)
    result = client.infer(model, [tensor(array, "FP32")])
    assert np.array_equal(result.as_numpy("OUT"), array)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(client, algorithm):
    array = sample("FP32", (2, 50_000))
    result = client.infer("python", [tensor(array, "FP32")], compression_algorithm=algorithm)
    assert np.array_equal(result.as_numpy("OUT"), array)


def pair(client, outputs=None, **options):
    a = tensor(np.array([1, 2, 3], np.float32), "FP32", "A")
    b = tensor(np.array([4, 5], np.int32), "INT32", "B")
    return client.infer("pair", [b, a], outputs=outputs, **options)


def test_outputs_are_chosen_one_by_one(client):
    everything = pair(client)
    assert everything.as_numpy("X").tolist() == [1, 2, 3]
    assert everything.as_numpy("Y").tolist() == [4, 5]
    only = pair(client, [grpcclient.InferRequestedOutput("Y")])
    assert only.as_numpy("X") is None and only.as_numpy("Y").tolist() == [4, 5]


def test_request_id_and_parameters(client):
    options = {"priority": 1, "timeout": 1000, "sequence_id": 5, "sequence_start": True}
    answer = pair(client, request_id="seven", parameters={"mine": "x"}, **options).get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("seven", "pair", "1")
    assert answer.parameters["param1"].int64_param == 42
    assert "triton_final_response" not in answer.parameters
    asked = tensor(np.zeros((1, 1), np.int8), "INT8")
    mine = {"text": "x", "count": 3, "yes": True}
    result = client.infer("told", [asked], parameters=mine)
    assert result.as_numpy("OUT")[0][0] == b'{"count": 3, "text": "x", "yes": true}'


def test_versions(client):
    assert list(client.get_model_metadata("versioned").versions) == ["1", "3"]
    assert list(client.get_model_metadata("versioned", "1").versions) == ["1"]
    array = sample("FP32", (1, 4))
    for asked, answered in (("", "3"), ("1", "1"), (" 3x", "3")):
        result = client.infer("versioned", [tensor(array, "FP32")], model_version=asked)
        assert result.get_response().model_version == answered


def test_requests_are_batched(client):
    results = queue.Queue()
    array = sample("FP32", (1, 4))
    for _ in range(16):
        client.async_infer(
            "batched", [tensor(array, "FP32")], lambda result, error: results.put((result, error))
        )
    for _ in range(16):
        result, error = results.get(timeout=60)
        assert error is None and np.array_equal(result.as_numpy("OUT"), array)


REGION = {"shared_memory_region": {"string_param": "r"}}
EMPTY_FINAL = "triton_enable_empty_final_response"
RESERVED = (
    "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
    "starting with 'triton_' are allowed: triton_enable_empty_final_response"
)
DATA = "unexpected explicit tensor data for input tensor 'IN' for model 'small'"
INVALID, NOT_FOUND, NOT_DONE = "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"

# Code and text as a Triton server gave them.
REFUSED = {
    "model": (request("nobody"), NOT_FOUND, "Request for unknown model: 'nobody' is not found"),
    "version": (
        request(version="2"),
        NOT_FOUND,
        "Request for unknown model: 'small' version 2 is not found",
    ),
    "version text": (
        request(version="x"),
        INVALID,
        "failed to get model version from specified version string 'x' (details: stol), version "
        "should be an integral value > 0",
    ),
    "negative version": (
        request(version="-3"),
        INVALID,
        "invalid model version specified '-3' , version should be an integral value > 0",
    ),
    "decoupled": (
        many(1),
        NOT_DONE,
        "ModelInfer RPC doesn't support models with decoupled transaction policy",
    ),
    "both contents": (
        request(contents={"int_contents": [1, 2]}),
        INVALID,
        "contents field must not be specified when using raw_input_contents for 'IN' for model "
        "'small'",
    ),
    "no contents": (
        request(raw=False),
        INVALID,
        "unable to find data for input tensor 'IN' for model 'small' in request.",
    ),
    "empty contents": (
        request(raw=False, contents={}),
        INVALID,
        "[request id: 7] input byte size mismatch for input 'IN' for model 'small'. Expected 2, "
        "got 0",
    ),
    "other contents": (
        request(raw=False, contents={"uint_contents": [1, 2]}),
        INVALID,
        DATA + " of type 'UINT32', expected datatype 'INT8'",
    ),
    "two kinds of contents": (
        request(raw=False, contents={"int_contents": [1, 2], "fp32_contents": [1, 2]}),
        INVALID,
        DATA + ", binary data was already supplied.",
    ),
    "half precision contents": (
        request(raw=False, datatype="FP16", contents={"fp32_contents": [1, 2]}),
        INVALID,
        DATA + " of type 'FP32', expected datatype 'FP16'",
    ),
    "no datatype": (
        request(datatype="NOPE"),
        INVALID,
        "[request id: 7] inference input 'IN' data-type is '<invalid>', but model 'small' expects "
        "'INT8'",
    ),
    "no datatype, contents": (
        request(raw=False, datatype="NOPE", contents={"int_contents": [1, 2]}),
        INVALID,
        DATA + " of type 'INT32', expected datatype '<invalid>'",
    ),
    "the model's error": (request("failing"), INVALID, "boom"),
    "sequence_id": (
        request(parameters={"sequence_id": {"double_param": 1}}),
        INVALID,
        "invalid value type for 'sequence_id' parameter, expected int64_param or string_param.",
    ),
    "sequence_start": (
        request(parameters={"sequence_start": {"int64_param": 1}}),
        INVALID,
        "invalid value type for 'sequence_start' parameter, expected bool_param.",
    ),
    "priority": (
        request(parameters={"priority": {"int64_param": -1}}),
        INVALID,
        "invalid value for 'priority', expected value >= 0.",
    ),
    "timeout": (
        request(parameters={"timeout": {"string_param": "1"}}),
        INVALID,
        "invalid value type for 'timeout' parameter, expected int64_param.",
    ),
    "custom": (
        request(parameters={"mine": {"uint64_param": 1}}),
        INVALID,
        "invalid value type for 'mine' parameter, expected int64_param, bool_param, or "
        "string_param.",
    ),
    "reserved": (request(parameters={"triton_x": {"bool_param": True}}), INVALID, RESERVED),
    "empty final": (
        request(parameters={EMPTY_FINAL: {"int64_param": 1}}),
        INVALID,
        "invalid value type for 'triton_enable_empty_final_response' parameter, expected "
        "bool_param.",
    ),
    "classification": (
        request(output={"classification": {"int64_param": 0}}),
        INVALID,
        "invalid value for 'classification' parameter, expected >= 0",
    ),
    "region without size": (
        request(input_parameters=REGION),
        INVALID,
        "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter "
        "for tensor 'IN'",
    ),
    "size without region": (
        request(output={"shared_memory_byte_size": {"int64_param": 1}}),
        INVALID,
        "'shared_memory_byte_size' can not be specified without 'shared_memory_region' parameter "
        "for tensor 'OUT'",
    ),
    "region that is no text": (
        request(input_parameters={"shared_memory_region": {"int64_param": 1}}),
        INVALID,
        "invalid value type for 'shared_memory_region' parameter for tensor 'IN', expected "
        "string_param.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(stub, case):
    asked, code, text = REFUSED[case]
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(asked)
    assert (raised.value.code().name, raised.value.details()) == (code, text)
    # The others on the connection do not notice.
    assert stub.ModelInfer(request()).raw_output_contents[0] == b"ab"


def test_superfluous_raw_contents_are_ignored(stub):
    asked = request()
    asked.raw_input_contents.append(b"more")
    assert stub.ModelInfer(asked).raw_output_contents[0] == b"ab"


def test_the_stock_client_reports_code_and_text(client):
    with pytest.raises(InferenceServerException) as raised:
        client.infer("nobody", [tensor(sample("FP32", (1, 4)), "FP32")])
    assert raised.value.status() == "StatusCode.NOT_FOUND"
    assert raised.value.message() == "Request for unknown model: 'nobody' is not found"


# What there is.


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("pair") and client.is_model_ready("pair", "1")
    with pytest.raises(InferenceServerException, match="'nobody' is not found"):
        client.is_model_ready("nobody")
    metadata = client.get_server_metadata()
    assert metadata.name == "triton" and "statistics" in metadata.extensions
    metadata = client.get_model_metadata("same_BYTES")
    assert (metadata.name, metadata.platform) == ("same_BYTES", "identity")
    for described, name in ((metadata.inputs, "IN"), (metadata.outputs, "OUT")):
        ((tensor),) = described
        assert (tensor.name, tensor.datatype, list(tensor.shape)) == (name, "BYTES", [-1, -1, 2])


def test_configuration(client):
    found = client.get_model_config("batched").config
    assert (found.name, found.backend, found.max_batch_size) == ("batched", "python", 8)
    assert list(found.dynamic_batching.preferred_batch_size) == [8]
    assert found.instance_group[0].count == 1 and found.input[0].dims == [-1]
    many = client.get_model_config("many").config
    assert many.model_transaction_policy.decoupled


def test_statistics_count(client):
    def counts():
        (row,) = client.get_inference_statistics("pair").model_stats
        assert row.inference_stats.queue.count == row.inference_count
        assert [batch.batch_size for batch in row.batch_stats] == [1]
        return row.version, row.inference_count, row.execution_count

    pair(client)
    before = counts()
    pair(client)
    assert counts() == ("1", before[1] + 1, before[2] + 1)
    names = [row.name for row in client.get_inference_statistics().model_stats]
    assert names == sorted(names) and "batched" in names
    with pytest.raises(InferenceServerException, match="requested model 'x' is not available"):
        client.get_inference_statistics("x")


def test_repository_index(client, stub):
    models = client.get_model_repository_index().models
    lines = [(line.name, line.version, line.state, line.reason) for line in models]
    assert ("small", "1", "READY", "") in lines
    assert [line[1] for line in lines if line[0] == "versioned"] == ["1", "3"]
    with pytest.raises(grpc.RpcError, match="'repository_name' specification is not supported"):
        stub.RepositoryIndex(messages.RepositoryIndexRequest(repository_name="r"))


def test_standard_health_service(server):
    with grpc.insecure_channel(server.grpc_url) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"
        assert check(b"\x0a\x05other") == b"\x08\x01"


def test_health_can_be_watched(tmp_path):
    python_model(tmp_path, "m", IDENTITY_MODEL)
    with Server(tmp_path, "--model-control-mode=explicit") as server:
        with grpc.insecure_channel(server.grpc_url) as channel:
            statuses = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
            assert next(statuses) == b"\x08\x01"
            server.process.send_signal(signal.SIGTERM)
            assert list(statuses) == [b"\x08\x02"]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(server, version):
    with grpc.insecure_channel(server.grpc_url) as channel:
        ask = channel.stream_stream(
            "/grpc.reflection.%s.ServerReflection/ServerReflectionInfo" % version
        )
        # list_services, and file_containing_symbol.
        symbol = b"inference.ModelConfig"
        services, file = ask(iter([b"\x3a\x00", b"\x22" + bytes([len(symbol)]) + symbol]))
    assert b"inference.GRPCInferenceService" in services and b"grpc.health.v1.Health" in services
    assert b"model_config.proto" in file


# Streams.


def told(message):
    """A message of a stream: error, id, final response, first number of the output."""
    response = message.infer_response
    final = None
    if "triton_final_response" in response.parameters:
        final = response.parameters["triton_final_response"].bool_param
    data = response.raw_output_contents
    return message.error_message, response.id, final, data[0][0] if data else None


def streamed(stub, *requests, **options):
    return [told(message) for message in stub.ModelStreamInfer(iter(requests), **options)]


def test_a_stream_of_the_stock_client(client):
    results = queue.Queue()
    client.start_stream(lambda result, error: results.put((result, error)))
    array = sample("FP32", (1, 4))
    for number in range(20):
        client.async_stream_infer(
            "python", [tensor(array + number, "FP32")], request_id=str(number)
        )
    for number in range(20):
        result, error = results.get(timeout=60)
        assert error is None
        answer = result.get_response()
        assert answer.id == str(number) and answer.parameters["triton_final_response"].bool_param
        assert np.array_equal(result.as_numpy("OUT"), array + number)
    client.async_stream_infer("nobody", [tensor(array, "FP32")])
    result, error = results.get(timeout=60)
    assert result is None and "'nobody' is not found" in error.message()
    client.stop_stream()


def test_errors_leave_a_stream_open(stub):
    wrong_size = request(shape=[5], id="c")
    asked = [request("nobody", id="a"), request("failing", id="b"), wrong_size, request(id="d")]
    assert streamed(stub, *asked) == [
        ("Request for unknown model: 'nobody' is not found", "a", None, None),
        ("boom", "b", True, None),
        (
            "[request id: c] input byte size mismatch for input 'IN' for model 'small'. Expected "
            "5, got 2",
            "c",
            None,
            None,
        ),
        ("", "d", True, ord("a")),
    ]
    (failed,) = stub.ModelStreamInfer(iter([request("failing", version="1")]))
    assert failed.infer_response.model_name == "failing"
    assert failed.infer_response.model_version == "1"
    assert streamed(stub) == []


def test_an_error_ends_a_stream_that_asks_for_that(stub):
    asked = [request(id="a"), request("nobody", id="b"), request(id="c")]
    answers = stub.ModelStreamInfer(iter(asked), metadata=(("triton_grpc_error", "true"),))
    assert told(next(answers))[1] == "a"
    with pytest.raises(grpc.RpcError) as raised:
        next(answers)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_decoupled_models(stub):
    end = {EMPTY_FINAL: {"bool_param": True}}
    data = [("", "m3", False, number) for number in range(3)]
    assert streamed(stub, many(3)) == data
    assert streamed(stub, many(3, parameters=end)) == data + [("", "m3", True, None)]
    assert streamed(stub, many(9)) == [("", "m9", True, 9)]
    assert streamed(stub, many(9, parameters=end)) == [("", "m9", True, 9)]
    assert streamed(stub, many(0)) == []
    assert streamed(stub, many(0, parameters=end)) == [("", "m0", True, None)]
    assert streamed(stub, many(-1)) == [("negative", "m-1", False, None)]
    many_thousand = streamed(stub, many(3000))
    assert len(many_thousand) == 3000


def test_answers_keep_the_order_of_requests_except_of_decoupled_models(stub, gate):
    gate.unlink(missing_ok=True)
    asked = queue.Queue()
    answers = stub.ModelStreamInfer(iter(asked.get, None))
    for one in (request("gate", id="slow"), request(id="fast"), many(1)):
        asked.put(one)
    # The decoupled model's answer was asked for last and does not wait.
    assert told(next(answers)) == ("", "m1", False, 0)
    gate.touch()
    assert [told(next(answers))[1] for _ in range(2)] == ["slow", "fast"]
    asked.put(None)
    assert list(answers) == []


def test_a_client_that_hangs_up_is_forgotten(stub, gate):
    gate.unlink(missing_ok=True)
    single = stub.ModelInfer.future(request("gate"))
    answers = stub.ModelStreamInfer(iter([request("gate"), request("gate"), many(1)]))
    assert told(next(answers))[1] == "m1"
    single.cancel()
    answers.cancel()
    gate.touch()
    assert stub.ModelInfer(request("gate")).raw_output_contents[0] == b"ab"
    with pytest.raises(grpc.RpcError, match="CANCELLED"):
        next(answers)


# The server as a whole.


def test_running_requests_are_answered_before_the_server_ends(tmp_path):
    gate = tmp_path / "open"
    repository = tmp_path / "models"
    gate_model(repository, gate)
    decoupled_model(repository)
    with Server(repository, "--exit-timeout-secs=60") as server:
        with grpc.insecure_channel(server.grpc_url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            single = stub.ModelInfer.future(request("gate"))
            asked = queue.Queue()
            answers = stub.ModelStreamInfer(iter(asked.get, None))
            asked.put(request("gate", id="late"))
            asked.put(many(1))
            # Whatever was sent before this answer has been taken in.
            assert told(next(answers))[1] == "m1"
            server.process.send_signal(signal.SIGTERM)
            server.wait_for(lambda: "stopping: waiting" in server.log())
            gate.touch()
            assert single.result(60).raw_output_contents[0] == b"ab"
            assert told(next(answers))[1] == "late"
            with pytest.raises(grpc.RpcError, match="GRPC server is shutting down"):
                next(answers)
            asked.put(None)
        assert server.process.wait(60) == 0


def test_flags(tmp_path):
    write_model(tmp_path, "small", config("identity", "FP32", max_batch_size=0))
    compressing = "--grpc-infer-response-compression-level=high"
    with Server(tmp_path, "--reuse-grpc-port=true", compressing) as server:
        array = np.zeros(100_000, np.float32)
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            result = client.infer("small", [tensor(array, "FP32")])
            assert np.array_equal(result.as_numpy("OUT"), array)
        taken = "--grpc-port=%d" % server.grpc_port
        code, output = exit_code(tmp_path, taken)
        assert code == 1 and "failed to listen on 127.0.0.1:%d" % server.grpc_port in output
        with Server(tmp_path, taken, "--reuse-grpc-port=true") as second:
            assert second.grpc_port == server.grpc_port
    with Server(tmp_path, "--allow-grpc=false") as without:
        assert without.grpc_port is None and without.get("/v2/health/live")[0] == 200
