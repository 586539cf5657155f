"""As much of Azure Blob Storage as a repository needs: one container, listed and read."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATE = "Fri, 27 Nov 2026 12:00:00 GMT"
BLOB = """<Blob><Name>%s</Name><Properties><Last-Modified>%s</Last-Modified><Etag>%s</Etag>
<Content-Length>%d</Content-Length><Content-Type>application/octet-stream</Content-Type>
</Properties></Blob>"""
LIST = """<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Prefix>models/</Prefix>
<Blobs>%s</Blobs><NextMarker/></EnumerationResults>"""


class Azure(ThreadingHTTPServer):
    """A container `box` with these blobs; `asked` has the credentials of every request."""

    daemon_threads = True

    def __init__(self, blobs):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.blobs, self.asked = blobs, []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.server_port

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.headers.get("Authorization", ""))
        path, _, query = self.path.partition("?")
        if "comp=list" in query:
            rows = [BLOB % (n, DATE, _tag(b), len(b)) for n, b in self.server.blobs.items()]
            return self._answer((LIST % "".join(rows)).encode(), {"Content-Type": "application/xml"})
        blob = self.server.blobs[path.removeprefix("/box/")]
        self._answer(blob, {"ETag": '"%s"' % _tag(blob), "Last-Modified": DATE})

    def _answer(self, body, headers):
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("x-ms-request-id", "1")
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)


def _tag(blob):
    return "0x8D%s" % hashlib.sha1(blob).hexdigest()[:12].upper()
