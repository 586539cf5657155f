"""Sends one request as it is and notes what matters of the answer."""

import gzip
import http.client
import json
import zlib


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
