"""Who may connect, and who may do what: TLS, keys, restricted APIs, control from elsewhere."""

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from certificates import Authority
from harness import Server, exit_code, write_model
from models import config
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "m", config("identity", max_batch_size=0))
    return folder


def ask(server, path, body=None, scheme="http", context=None, **headers):
    """Status and text of an answer."""
    url = "%s://%s%s" % (scheme, server.url, path)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def infer(stock, url, **options):
    with stock.InferenceServerClient(url, **options) as client:
        tensor = stock.InferInput("IN", [2], "FP32")
        tensor.set_data_from_numpy(np.float32([1, 2]))
        return client.infer("m", [tensor]).as_numpy("OUT").tolist()


# Control from elsewhere: this machine's own address stands for another's.


def elsewhere():
    """An address of this machine that is not its loopback."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))  # Sends nothing.
        return probe.getsockname()[0]
    except OSError:
        return pytest.skip("this machine has no address but its loopback")
    finally:
        probe.close()


EVERYWHERE = ("--http-address=0.0.0.0", "--grpc-address=0.0.0.0", "--model-control-mode=explicit")
LOAD = "/v2/repository/models/m/load"


def test_control_is_for_this_machine(repository):
    address = elsewhere()
    with Server(repository, *EVERYWHERE) as server:
        assert ask(server, LOAD, {})[0] == 200
        assert ask(server, LOAD, {}, X_Forwarded_For="10.0.0.1")[0] == 403
        with httpclient.InferenceServerClient("%s:%d" % (address, server.port)) as client:
            assert client.is_model_ready("m") and client.get_model_repository_index()
            for call in (
                lambda: client.load_model("m"),
                lambda: client.unload_model("m"),
                lambda: client.register_system_shared_memory("r", "/r", 8),
            ):
                with pytest.raises(InferenceServerException, match="--allow-remote-control=true"):
                    call()
        with grpcclient.InferenceServerClient("%s:%d" % (address, server.grpc_port)) as client:
            assert client.get_model_repository_index().models
            with pytest.raises(InferenceServerException, match="--allow-remote-control") as raised:
                client.load_model("m")
            assert raised.value.status() == "StatusCode.PERMISSION_DENIED"


def test_control_from_elsewhere_can_be_allowed(repository):
    address = elsewhere()
    with Server(repository, *EVERYWHERE, "--allow-remote-control=true") as server:
        with httpclient.InferenceServerClient("%s:%d" % (address, server.port)) as client:
            client.load_model("m")
        with grpcclient.InferenceServerClient("%s:%d" % (address, server.grpc_port)) as client:
            client.load_model("m")


# Restricted APIs.


def test_restricted_apis_want_their_header(repository):
    rules = (
        "--http-restricted-api=inference,model-config:key=value",
        "--grpc-restricted-protocol=inference,model-config:key=value",
    )
    with Server(repository, *rules) as server:
        refusal = '{"error":"This API is restricted, expecting header \'key\'"}'
        assert ask(server, "/v2/models/m/config") == (403, refusal)
        assert ask(server, "/v2/models/m/config", key="other") == (403, refusal)
        assert ask(server, "/v2/models/m/config", key="value")[0] == 200
        assert ask(server, "/v2/models/m")[0] == 200
        with pytest.raises(InferenceServerException, match="This API is restricted"):
            infer(httpclient, server.url)
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            with pytest.raises(InferenceServerException) as raised:
                client.get_model_config("m")
            assert raised.value.status() == "StatusCode.UNAVAILABLE"
            expected = "This protocol is restricted, expecting header 'triton-grpc-protocol-key'"
            assert raised.value.message() == expected
            assert client.get_model_config("m", headers={"triton-grpc-protocol-key": "value"})


def test_rules_that_make_no_sense(repository):
    for flags, message in [
        (("--http-restricted-api=wealth:a=b",), "unknown restricted api 'wealth'"),
        (("--http-restricted-api=health:a",), "expected <key>=<value>"),
        (("--http-header-forward-pattern=(",), "found open group without closing ')'"),
        (("--grpc-use-ssl=true",), "TLS needs --grpc-server-cert"),
        (("--api-key-file=/nothing",), "failed to read '/nothing'"),
    ]:
        code, output = exit_code(repository, *flags)
        assert code != 0 and message in output, output


# Keys.


def test_keys_have_scopes_and_are_read_again(repository, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("infer one\ncontrol two\nadmin three\n")
    explicit = ("--model-control-mode=explicit", "--load-model=m")
    with Server(repository, *explicit, "--api-key-file=%s" % keys) as server:

        def asked(path, key, body=None):
            return ask(server, path, body, Authorization="Bearer " + key)[0]

        assert ask(server, "/v2/health/ready")[0] == 200
        status, text = ask(server, "/v2/models/m")
        assert status == 401 and "Bearer <key>" in text
        inputs = {"inputs": [{"name": "IN", "shape": [1], "datatype": "FP32", "data": [1]}]}
        statuses = {
            key: [
                asked("/v2/models/m", key), asked("/v2/models/m/infer", key, inputs), asked(LOAD, key, {})
            ]
            for key in ("one", "two", "three", "four")
        }
        assert statuses == {
            "one": [200, 200, 403], "two": [200, 403, 200], "three": [200] * 3, "four": [401] * 3
        }
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            assert client.is_server_ready()
            with pytest.raises(InferenceServerException) as raised:
                client.get_model_config("m")
            assert raised.value.status() == "StatusCode.UNAUTHENTICATED"
            with pytest.raises(InferenceServerException) as raised:
                client.load_model("m", headers={"authorization": "Bearer one"})
            assert raised.value.status() == "StatusCode.PERMISSION_DENIED"
            client.load_model("m", headers={"authorization": "Bearer two"})
        keys.write_text("infer four\n")
        server.wait_for(lambda: asked("/v2/models/m", "four") == 200)
        assert asked("/v2/models/m", "one") == 401
        keys.write_text("everything five\n")
        server.wait_for(lambda: "the keys stay as they are" in server.log())
        assert asked("/v2/models/m", "four") == 200


# TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "one", "one")


def tls_flags(authority, certificate, key, kind="use-ssl"):
    return [
        "--%s-%s" % (protocol, rest)
        for protocol in ("http", "grpc")
        for rest in (
            kind + "=true", "server-cert=%s" % certificate, "server-key=%s" % key,
            "root-cert=%s" % authority.root,
        )
    ]


def grpc_options(authority, certificate=None, key=None):
    files = {"root_certificates": authority.root, "certificate_chain": certificate, "private_key": key}
    return {"ssl": True, **{name: str(file) for name, file in files.items() if file}}


def test_tls_with_the_stock_clients_and_new_certificates(repository, authority, tmp_path):
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"

    def install(files):
        for source, target in zip(files, (certificate, key)):
            target.write_bytes(source.read_bytes())

    install(authority.sign("server"))
    with Server(repository, *tls_flags(authority, certificate, key), wait_ready=False) as server:
        context = ssl.create_default_context(cafile=str(authority.root))
        assert ask(server, "/v2/health/live", scheme="https", context=context)[0] == 200
        server.wait_for(
            lambda: ask(server, "/v2/health/ready", scheme="https", context=context)[0] == 200
        )
        options = {"ssl": True, "ssl_options": {"ca_certs": str(authority.root)}}
        assert infer(httpclient, "localhost:%d" % server.port, **options) == [1, 2]
        grpc_url = "localhost:%d" % server.grpc_port
        assert infer(grpcclient, grpc_url, **grpc_options(authority)) == [1, 2]
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server, "/v2/health/live")

        other = Authority(tmp_path / "two", "two")
        install(other.sign("server"))
        server.wait_for(lambda: server.log().count("certificates read again") >= 2)
        assert infer(grpcclient, grpc_url, **grpc_options(other)) == [1, 2]
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            ask(server, "/v2/health/live", scheme="https", context=context)


def test_mutual_tls(repository, authority, tmp_path):
    flags = tls_flags(authority, *authority.sign("mutual"), kind="use-ssl-mutual")
    certificate, key = authority.sign("client")
    with Server(repository, *flags, wait_ready=False) as server:
        context = ssl.create_default_context(cafile=str(authority.root))
        with pytest.raises((urllib.error.URLError, ConnectionError, ssl.SSLError)):
            ask(server, "/v2/health/live", scheme="https", context=context)
        context.load_cert_chain(certificate, key)
        server.wait_for(
            lambda: ask(server, "/v2/health/ready", scheme="https", context=context)[0] == 200
        )
        url = "localhost:%d" % server.grpc_port
        assert infer(grpcclient, url, **grpc_options(authority, certificate, key)) == [1, 2]
        stranger = Authority(tmp_path / "stranger", "stranger").sign("client")
        for files in ((), stranger):
            with pytest.raises((InferenceServerException, grpc.RpcError)) as raised:
                infer(grpcclient, url, **grpc_options(authority, *files))
            assert "UNAVAILABLE" in str(raised.value)
