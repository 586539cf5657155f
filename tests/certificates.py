"""Certificates for this machine, made by `openssl`."""

import subprocess


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates."""

    def __init__(self, folder, name):
        folder.mkdir()
        self.folder, self.root = folder, folder / "root.pem"
        self.key = folder / "root.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", 2, "-subj", "/CN=" + name, "-keyout", self.key, "-out", self.root)

    def sign(self, name):
        """Files with a certificate for this machine and its key."""
        certificate, key = self.folder / (name + ".pem"), self.folder / (name + ".key")
        request, about = self.folder / (name + ".csr"), self.folder / (name + ".ext")
        about.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", "/CN=" + name, "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self.key, "-days", 2,
                "-CAcreateserial", "-extfile", about, "-out", certificate)
        return certificate, key
