"""Sends one request or call as it is and notes what matters of the answer."""

import gzip
import http.client
import json
import zlib

import grpc
from google.protobuf.json_format import MessageToDict


def ask(port, method, path, headers, body):
    """Status, content type with the encoding, and the answer: text, JSON, or the size of anything binary."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body if method == "POST" else None, headers)
    reply = connection.getresponse()
    content = reply.read()
    kind = reply.getheader("Content-Type")
    encoding = reply.getheader("Content-Encoding")
    if encoding:
        content = {"gzip": gzip, "deflate": zlib}[encoding].decompress(content)
        kind = "%s, %s" % (kind, encoding)
    connection.close()
    if reply.getheader("Inference-Header-Content-Length"):
        length = int(reply.getheader("Inference-Header-Content-Length"))
        return [reply.status, kind, [_parsed(content[:length]), content[length:].hex()]]
    return [reply.status, kind, _parsed(content)]


def _parsed(content):
    text = content.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def call(method, message, **more):
    """The message that comes back, or the status and its text."""
    try:
        return MessageToDict(method(message, timeout=60, **more), preserving_proto_field_name=True)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


def stream(stub, requests):
    """All messages of a stream, or the status that it ended with."""
    found = stub.ModelStreamInfer(iter(requests), timeout=60)
    try:
        return [MessageToDict(message, preserving_proto_field_name=True) for message in found]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


def set_parameter(parameter, value):
    """Sets a parameter of gRPC to a value of Python."""
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    wide = type(value) is int and value >= 1 << 63
    setattr(parameter, "uint64_param" if wide else kinds[type(value)], value)
