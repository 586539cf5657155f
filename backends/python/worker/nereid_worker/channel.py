"""The channel to the server: two pipes, read by one thread at a time and written by any."""

import os
import select
import threading
from collections import deque

import numpy as np

from nereid_worker import frames
from nereid_worker.turns import Turns

_HEAD = frames.HEAD.unpack_from

# What one read takes. Its memory comes from the heap, unlike that of a larger one.
_READ = 1 << 16


class Channel:
    """Frames from and to the server. `work` tells how much waits to be run.

    Requests wait in the pipe while the model computes; all that one read brings is answered with
    one write.
    """

    def __init__(self, requests, answers, work):
        self.requests = requests
        self.answers = answers
        # What to do with a frame of some kind, in whatever thread has read it. Frames of other
        # kinds wait in `pending`.
        self.handlers = {}
        self.pending = deque()
        self.out = []
        # Numbers of answers whose memory is not used any more.
        self.released = []
        self.lock = threading.RLock()
        # The thread whose calls gather in `out`, for one write.
        self.held_by = 0
        # The start of a frame whose rest has not come, and how long both are together.
        self._begun = bytearray()
        self._wanted = 16
        self.turns = Turns(self._read, work)

    def read_what_is_there(self):
        """Reads without waiting."""
        self.turns.read_if(lambda: select.select([self.requests], (), (), 0)[0])

    def _read(self):
        """Blocks until the server sends something."""
        data = os.read(self.requests, _READ)
        if not data:
            os._exit(0)  # The server is gone; nothing that this process knows matters any more.
        if self._begun:
            self._begun += data
            if len(self._begun) < self._wanted:
                return
            data = bytes(self._begun)
            self._begun.clear()
        at, filled = 0, len(data)
        while filled - at >= 16:
            length, kind, count, frame_id = _HEAD(data, at)
            end = at + length
            if end > filled:
                break
            body = data[at + 16 : end]
            at = end
            handler = self.handlers.get(kind)
            if handler is None:
                self.pending.append((kind, count, frame_id, body))
            else:
                handler(count, frame_id, body)
        if at < filled:
            self._begun += data[at:]
            self._wanted = _HEAD(data, at)[0] if filled - at >= 16 else 16

    def send(self, frame):
        """Writes a frame, and before it what has gathered."""
        with self.lock:
            self.out.append(frame)
        self.flush()

    def later(self, frame):
        """Leaves a frame for the next write. Unlike `send` it may be called from a finalizer, which
        may run in the middle of a write."""
        with self.lock:
            self.out.append(frame)

    def flush_or_hold(self):
        """As `flush`, unless what this thread sends is to share a write."""
        if self.held_by != threading.get_ident():
            self.flush()

    def flush(self):
        """Writes what has gathered, and then which memory is free again."""
        with self.lock:
            out, self.out = self.out, []
            if self.released:
                ids, self.released = self.released, []
                body = np.array(ids, dtype=np.uint64).tobytes()
                out.append(frames.frame(frames.RELEASE_ANSWERS, 0, 0, body))
            data = out[0] if len(out) == 1 else b"".join(out)
            written = os.write(self.answers, data) if data else 0
            while written < len(data):
                data = data[written:]
                written = os.write(self.answers, data)
