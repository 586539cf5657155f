"""A real S3 server (moto), and a proxy before it that does to requests what networks and clouds do."""

import http.client
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from botocore.config import Config
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

KEY_ID, SECRET = "AKIATESTTESTTESTTEST", "hush/this+is/the/secret"


class Faults(ThreadingHTTPServer):
    """Passes requests on, and notes them. `fault(request)` may do something else: it gets the
    handler, and says whether it has answered."""

    daemon_threads = True

    def __init__(self, target):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.fault = lambda request: False
        self.seen = []
        self.sent = 0  # Bytes of objects.
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def handle_error(self, request, client_address):
        pass  # Clients that hang up are part of the tests.

    def objects(self):
        """Keys of the objects that were asked for since this was called last."""
        seen, self.seen = self.seen, []
        return [path.split("?")[0].split("/", 2)[2] for path in seen if "list-type" not in path]

    def stop(self):
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.seen.append(self.path)
        if self.server.fault(self):
            return
        self.pass_on()

    do_HEAD = do_GET

    def pass_on(self, cut=None, spoil=False):
        """Answers with what the target says; all of it, or its first `cut` bytes before hanging up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target)
        connection.request(self.command, self.path, headers=dict(self.headers))
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        if spoil:
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        if "list-type" not in self.path:
            self.server.sent += len(body[:cut])
        self.wfile.write(body[:cut])
        if cut is not None and cut < len(body):
            self.hang_up()

    def refuse(self, status, code):
        body = b"<Error><Code>%s</Code><Message>no</Message></Error>" % code.encode()
        self.send_response(status)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()


class S3:
    """The server, its proxy, and a bucket of the name `bucket`."""

    def __init__(self):
        self.moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self.moto.start()
        _, self.port = self.moto.get_host_and_port()
        self.proxy = Faults(self.port)
        self.client = boto3.client(
            "s3",
            endpoint_url="http://127.0.0.1:%d" % self.port,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required"),
        )

    def url(self, path, scheme="s3"):
        return "%s://127.0.0.1:%d/%s" % (scheme, self.proxy.server_port, path)

    def put(self, bucket, key, contents):
        contents = contents.encode() if isinstance(contents, str) else contents
        self.client.put_object(Bucket=bucket, Key=key, Body=contents)

    def upload(self, folder, bucket, prefix):
        """Puts the files of a folder there."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = "%s/%s" % (prefix, path.relative_to(folder))
                self.put(bucket, key, path.read_bytes())

    def delete(self, bucket, prefix):
        for row in self.client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
            self.client.delete_object(Bucket=bucket, Key=row["Key"])

    def stop(self):
        self.proxy.stop()
        self.moto.stop()


def environment(cache, **more):
    """What a server is to see of the environment: these credentials and no others."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GOOGLE_", "AZURE_"))}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
        "TRITON_AWS_MOUNT_DIRECTORY": str(cache),
        "TRITON_GCS_MOUNT_DIRECTORY": str(cache),
        "HOME": str(cache),
        **more,
    }
