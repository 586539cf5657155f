"""The OpenAPI document, held against a server that runs: what it answers fits its own description."""

import json
import urllib.request

import pytest
from harness import Server, write_model
from models import config

INFER = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "plain", config("identity"))
    with Server(repository) as running:
        yield running


@pytest.fixture(scope="module")
def document(server):
    status, body = server.get("/v2/openapi.json")
    assert status == 200
    return json.loads(body)


def check(document, schema, value, where):
    """Whether `value` is what `schema` says, as far as the document's schemas go."""
    if "$ref" in schema:
        return check(document, document["components"]["schemas"][schema["$ref"].split("/")[-1]], value, where)
    if value is None:
        assert schema.get("nullable"), where
        return
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    kind = kinds.get(schema.get("type"))
    assert kind is None or isinstance(value, kind), (where, value)
    assert value in schema.get("enum", [value]), (where, value)
    if isinstance(value, list):
        for index, item in enumerate(value):
            check(document, schema.get("items", {}), item, "%s/%d" % (where, index))
    if isinstance(value, dict):
        known = schema.get("properties", {})
        others = schema.get("additionalProperties", {} if not known else None)
        assert set(schema.get("required", [])) <= set(value), where
        for name, item in value.items():
            assert name in known or others is not None, (where, name)
            one = known.get(name, others)
            check(document, {} if one is True else one, item, where + "/" + name)


ASKED = [
    ("get", "/v2", None),
    ("get", "/v2/models/{model}", None),
    ("get", "/v2/models/{model}/versions/{version}/config", None),
    ("get", "/v2/models/{model}/stats", None),
    ("get", "/v2/models/stats", None),
    ("post", "/v2/models/{model}/infer", INFER),
    ("post", "/v2/models/{model}/generate", {"IN": [1.0]}),
    ("post", "/v2/repository/index", {"ready": True}),
    ("get", "/v2/trace/setting", None),
    ("post", "/v2/models/{model}/trace/setting", {"trace_rate": "5"}),
    ("get", "/v2/logging", None),
    ("post", "/v2/logging", {"log_info": None}),
    ("get", "/v2/systemsharedmemory/status", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_answers_are_as_described(server, document, method, path, body):
    operation = document["paths"][path][method]
    url = path.replace("{model}", "plain").replace("{version}", "1")
    data = None if body is None else json.dumps(body).encode()
    if body is not None:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        check(document, schema, body, "request")
    with urllib.request.urlopen(
        urllib.request.Request("http://%s%s" % (server.url, url), data, method=method.upper())
    ) as reply:
        answer = json.load(reply)
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    check(document, schema, answer, "answer")


def test_errors_are_as_described(server, document):
    status, body = server.get("/v2/models/nobody")
    described = document["paths"]["/v2/models/{model}"]["get"]["responses"]["default"]
    schema = described["content"]["application/json"]["schema"]
    assert status == 404
    check(document, schema, json.loads(body), "error")
