"""The log: Triton's lines and its extension, over both protocols, and the access log."""

import json
import re

import grpc as rpc
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from google.protobuf import json_format
from harness import Server, exit_code, write_model
from models import config
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

LINE = re.compile(r'^[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ \w+\.rs:\d+\] ".*"$')
ISO_LINE = re.compile(r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [IWE] \d+ \w+\.rs:\d+\] ".*"$')

SETTINGS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}

# As a Triton 2.51 answered.
REFUSALS = [
    ({"log_info": 1}, "attempt to access JSON non-boolean as boolean", "500"),
    (
        {"log_verbose_level": -1},
        "attempt to access JSON non-unsigned-integer as unsigned-integer",
        "500",
    ),
    ({"log_format": 1}, "attempt to access JSON non-string as string", "500"),
    ({"log_format": "x"}, "invalid argument for --log_format, got: x", "503"),
    ({"log_file": "x"}, "log file location can not be updated through network protocol", "501"),
]
GRPC_REFUSALS = [
    ("log_info", {"string_param": "x"}, "expect boolean for 'log_info'", "INVALID_ARGUMENT"),
    (
        "log_verbose_level",
        {"bool_param": True},
        "expect int32 for 'log_verbose_level'",
        "INVALID_ARGUMENT",
    ),
    ("log_format", {"bool_param": True}, "expect string for 'log_format'", "INVALID_ARGUMENT"),
    (
        "log_format",
        {"string_param": "x"},
        "invalid argument for log_format, got: x",
        "INVALID_ARGUMENT",
    ),
    (
        "log_file",
        {"string_param": "x"},
        "log file location can not be updated through network protocol",
        "UNIMPLEMENTED",
    ),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "plain", config("identity"))
    return folder


def test_settings_over_both_protocols(repository):
    with Server(repository) as server:
        http = httpclient.InferenceServerClient(server.url)
        grpc = grpcclient.InferenceServerClient(server.grpc_url)
        assert http.get_log_settings() == SETTINGS
        changed = {"log_verbose_level": 1, "log_info": False, "log_format": "ISO8601"}
        assert http.update_log_settings(changed) == {**SETTINGS, **changed}
        over_grpc = grpc.get_log_settings(as_json=True)["settings"]
        assert over_grpc["log_verbose_level"] == {"uint32_param": 1}
        assert over_grpc["log_format"] == {"string_param": "ISO8601"}
        back = {"log_verbose_level": 0, "log_info": True, "log_format": "default"}
        grpc.update_log_settings(back)
        assert http.get_log_settings() == SETTINGS
        assert http.update_log_settings({"log_info": None, "unknown": 1}) == SETTINGS
        for settings, message, status in REFUSALS:
            with pytest.raises(InferenceServerException) as raised:
                http.update_log_settings(settings)
            assert (raised.value.message(), raised.value.status()) == (message, status)
        with rpc.insecure_channel(server.grpc_url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for name, value, message, code in GRPC_REFUSALS:
                request = service_pb2.LogSettingsRequest()
                json_format.ParseDict(value, request.settings[name])
                with pytest.raises(rpc.RpcError) as raised:
                    stub.LogSettings(request)
                assert (raised.value.details(), raised.value.code().name) == (message, code)
        assert http.get_log_settings() == SETTINGS
        http.close()
        grpc.close()


def log_lines(server):
    return [line.rstrip("\n") for line in server.lines if not line.startswith("|")]


def test_lines_and_the_access_log(repository):
    with Server(repository, "--log-access") as server:
        assert server.get("/v2/models/plain/config")[0] == 200
        server.wait_for(lambda: "/v2/models/plain/config" in server.log())
        assert all(LINE.match(line) for line in log_lines(server)), server.log()
        assert re.search(r'HTTP method=GET path=/v2/models/plain/config status=200', server.log())
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            assert client.is_server_live()
            with pytest.raises(InferenceServerException):
                client.get_model_metadata("nobody")
        service = "gRPC path=/inference.GRPCInferenceService"
        server.wait_for(lambda: "%s/ModelMetadata status=5 " % service in server.log())
        assert "%s/ServerLive status=0 " % service in server.log()
        with httpclient.InferenceServerClient(server.url) as client:
            client.update_log_settings({"log_format": "ISO8601"})
            before = len(log_lines(server))
            server.get("/v2/nowhere")
            server.wait_for(lambda: "/v2/nowhere" in server.log())
            assert all(ISO_LINE.match(line) for line in log_lines(server)[before + 1 :])
            client.update_log_settings({"log_info": False})
            server.get("/v2/unseen")
            client.update_log_settings({"log_info": True})
            server.get("/v2/seen")
            server.wait_for(lambda: "/v2/seen" in server.log())
            assert "/v2/unseen" not in server.log()


def test_json_lines(repository):
    with Server(repository, "--log-access=true", "--log-format=json") as server:
        assert server.get("/v2/health/ready")[0] == 200
        server.wait_for(lambda: "/v2/health/ready" in server.log())
        entries = [json.loads(line) for line in log_lines(server)]
    assert {entry["level"] for entry in entries} == {"info"}
    access = [entry for entry in entries if entry.get("path") == "/v2/health/ready"]
    assert access[-1]["method"] == "GET" and access[-1]["us"] >= 0
    assert any(entry["message"].startswith("Started HTTPService at") for entry in entries)


def test_a_file_takes_the_log(repository, tmp_path):
    file = tmp_path / "log"
    file.write_text("what was there before\n")
    broken = tmp_path / "models"
    write_model(broken, "broken", 'backend: "nobody"')
    code, output = exit_code(broken, "--log-file=%s" % file)
    assert code == 1 and not any(LINE.match(line) for line in output.splitlines())
    before, *lines = file.read_text().splitlines()
    assert before == "what was there before"
    assert all(LINE.match(line) for line in lines) and "failed to load" in "".join(lines)
    code, output = exit_code(repository, "--log-file=/nowhere/log")
    assert code == 1 and "failed to open log '/nowhere/log'" in output
