"""The server's end of a worker, for tests: speaks the frame layout on its own, not through the worker's code."""

import json
import mmap
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

INIT, EXECUTE, CALL_ANSWER, FINALIZE, RELEASE, CANCEL, WATCHED, NESTED, ASK_READY = range(1, 10)
MAP, UNMAP = 11, 12
READY, FAILED, EXECUTED, CALL, RELEASE_ANSWERS, LOG, FINALIZED, RESPONSE = range(101, 109)
WATCH, CANCEL_CALL, CONTROL, METRIC, READY_STATE, KEEP, MAPPED = range(109, 116)
INLINE = (1 << 64) - 1
ARENA_LEN = 64 << 20
SPAN = (32 << 20, 16 << 20)
CODES = {np.dtype(k): n for n, k in enumerate("? u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8".split(), 1)}
DTYPES = {number: dtype for dtype, number in CODES.items()}
STRING, BF16 = 13, 14
WORKER_DIR = os.environ.get("NEREID_WORKER_DIR") or str(Path(__file__).resolve().parents[1])
PYTHON = os.environ.get("NEREID_TEST_PYTHON") or sys.executable


def pad(data):
    """`data` filled up to a multiple of eight bytes."""
    return data + bytes(-len(data) % 8)


def strings(*elements):
    """A string tensor's bytes."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def block(tensors=(), extras=None):
    """`tensors`: (name, array), (name, (code, shape, bytes)) or (name, array, arena offset)."""
    extras = json.dumps(extras).encode() if extras else b""
    meta = table = data = b""
    for name, value, *place in tensors:
        if isinstance(value, tuple):
            code, shape, raw = value
        else:
            code, shape, raw = CODES[value.dtype], value.shape, value.tobytes()
        encoded = name.encode()
        meta += pad(struct.pack("<HBB", len(encoded), code, len(shape)) + encoded)
        meta += struct.pack("<%dq" % len(shape), *shape)
        table += struct.pack("<QQ", place[0] if place else INLINE, len(raw))
        data += b"" if place else pad(raw)
    body = pad(extras) + meta + table + data
    return struct.pack("<4I", 16 + len(body), len(extras), len(meta), len(tensors)) + body


def frame(kind, frame_id=0, *blocks, body=None):
    """A whole frame."""
    body = b"".join(blocks) if body is None else body
    return struct.pack("<IHHQ", 16 + len(body), kind, len(blocks), frame_id) + body


def note(kind, frame_id, count):
    """A frame that is only a head."""
    return struct.pack("<IHHQ", 16, kind, count, frame_id)


class Tensor:
    """A tensor that the worker sent."""

    def __init__(self, name, code, shape, raw, location):
        self.name, self.code, self.shape, self.raw, self.location = name, code, shape, raw, location

    def array(self):
        return np.frombuffer(self.raw, DTYPES[self.code]).reshape(self.shape)


class Server:
    """Starts a worker for the text of a `model.py` and talks to it."""

    def __init__(self, folder, source, config=None, extra_files=None, init=True, init_extras=None, python=PYTHON):
        version = folder / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(source)
        for name, text in (extra_files or {}).items():
            (folder / name).write_text(text)
        their_requests, self.requests = os.pipe()
        self.answers, their_answers = os.pipe()
        memfd = os.memfd_create("arena")
        os.truncate(memfd, ARENA_LEN)
        self.arena = mmap.mmap(memfd, ARENA_LEN)
        inherited = (their_requests, their_answers, memfd)
        names = ("NEREID_REQUESTS_FD", "NEREID_ANSWERS_FD", "NEREID_ARENA_FD")
        self.process = subprocess.Popen(
            [python, "-u", "-m", "nereid_worker"],
            pass_fds=inherited,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                **{name: str(fd) for name, fd in zip(names, inherited)},
                "NEREID_ARENA_LEN": str(ARENA_LEN),
                "NEREID_SERVER_PID": str(os.getpid()),
                "PYTHONPATH": WORKER_DIR,
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        for fd in inherited:
            os.close(fd)
        self.input = b""
        config = {"name": "m", "output": [{"name": "OUT"}], **(config or {})}
        args = {"model_config": json.dumps(config), "model_name": "m", "model_version": "1"}
        self.send(
            frame(
                INIT,
                0,
                block(
                    extras={
                        "model_dir": str(folder),
                        "version_dir": str(version),
                        "model_file": str(version / "model.py"),
                        "args": args,
                        "span": SPAN,
                        **(init_extras or {}),
                    }
                ),
            )
        )
        if init:
            assert self.next()[0] == READY

    def send(self, *frames):
        data = b"".join(frames)
        while data:
            data = data[os.write(self.requests, data) :]

    def next(self, timeout=60.0):
        """The next frame as (kind, id, blocks): each block is (tensors by name, extras)."""
        until = time.monotonic() + timeout
        while True:
            if len(self.input) >= 16:
                length, kind, count, frame_id = struct.unpack_from("<IHHQ", self.input)
                assert length % 8 == 0 and length >= 16
                if len(self.input) >= length:
                    body, self.input = self.input[16:length], self.input[length:]
                    return kind, frame_id, self._content(kind, count, body)
            if not select.select([self.answers], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError("no frame from the worker")
            more = os.read(self.answers, 1 << 20)
            if not more:
                raise EOFError("the worker ended: " + self.process.stderr.read().decode())
            self.input += more

    def _content(self, kind, count, body):
        if kind in (WATCH, CANCEL_CALL, MAPPED):
            return count
        if kind in (RELEASE_ANSWERS, KEEP):
            return list(struct.unpack("<%dQ" % (len(body) // 8), body))
        blocks, at = [], 8 if kind == CALL else 0
        for _ in range(count):
            blocks.append(self._block(body, at))
            at += struct.unpack_from("<I", body, at)[0]
        assert at == len(body)
        if kind == CALL:
            blocks[0][1]["request"] = struct.unpack_from("<Q", body)[0]
        return blocks

    def _block(self, body, at):
        block_len, extras_len, meta_len, count = struct.unpack_from("<4I", body, at)
        end, at = at + block_len, at + 16
        extras = json.loads(body[at : at + extras_len]) if extras_len else {}
        at += len(pad(bytes(extras_len)))
        table, tensors = at + meta_len, {}
        data = table + 16 * count
        for index in range(count):
            name_len, code, ndim = struct.unpack_from("<HBB", body, at)
            name = body[at + 4 : at + 4 + name_len].decode()
            at += len(pad(bytes(4 + name_len)))
            shape = struct.unpack_from("<%dq" % ndim, body, at)
            at += 8 * ndim
            location, length = struct.unpack_from("<QQ", body, table + 16 * index)
            if location == INLINE:
                raw = body[data : data + length]
                data += len(pad(bytes(length)))
            else:
                raw = self.arena[location : location + length]  # Nothing, if it is in a region.
            tensors[name] = Tensor(name, code, shape, raw, location)
        assert at == table and data == end
        return tensors, extras

    def place(self, offset, array):
        """Puts an array into the arena; returns what `block` takes for it."""
        raw = array.tobytes()
        self.arena[offset : offset + len(raw)] = raw
        return array, offset

    def execute(self, frame_id, *tensors, extras=None):
        """Sends one request and returns the one block of its answer."""
        self.send(frame(EXECUTE, frame_id, block(tensors, extras)))
        kind, answered, blocks = self.next()
        assert (kind, answered) == (EXECUTED, frame_id), blocks
        return blocks[0]

    def close(self):
        os.close(self.requests)
        try:
            self.process.wait(5)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()
            os.close(self.answers)
