"""The channel to the server: two pipes, read by one thread at a time and written by any."""

import os
import select
import threading
from collections import deque

import numpy as np

from nereid_worker import frames

_HEAD = frames.HEAD.unpack_from


class Channel:
    """Frames from and to the server.

    Requests wait in the pipe while the model computes; all that one read brings is answered with
    one write. Any number of threads may wait for a frame: one of them reads for all.
    """

    def __init__(self, requests, answers):
        self.requests = requests
        self.answers = answers
        # What to do with a frame of some kind, in whatever thread has read it. Frames of other
        # kinds wait in `pending`.
        self.handlers = {}
        self.pending = deque()
        self.out = []
        # Numbers of answers whose memory is not used any more.
        self.released = []
        # Called when frames were read by a thread that did not wait for them.
        self.notify = None
        self.lock = threading.RLock()
        self._buffer = bytearray(1 << 20)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._turn = threading.Lock()
        self._arrived = threading.Condition(threading.Lock())
        self._waiters = 0

    def read_until(self, ready):
        """Reads until `ready()`."""
        if self._turn.acquire(False):
            self._read_in_turn(ready)
            return
        arrived = self._arrived
        with arrived:
            self._waiters += 1
            try:
                while not ready():
                    if not self._turn.acquire(False):
                        arrived.wait()
                        continue
                    arrived.release()
                    try:
                        self._read_in_turn(ready)
                    finally:
                        arrived.acquire()
            finally:
                self._waiters -= 1

    def _read_in_turn(self, ready):
        try:
            while not ready():
                self._read()
                if self._waiters:
                    self.wake()
                if self.notify is not None:
                    self.notify()
        finally:
            self._end_turn()

    def _end_turn(self):
        self._turn.release()
        # Whoever failed to take the turn was counted before, so nobody is missed here.
        if self._waiters:
            self.wake()

    def wake(self):
        """Lets all waiting threads look again at what they wait for."""
        with self._arrived:
            self._arrived.notify_all()

    def read_what_is_there(self):
        """Reads without waiting."""
        if self._turn.acquire(False):
            try:
                if select.select([self.requests], (), (), 0)[0]:
                    self._read()
            finally:
                self._end_turn()

    def _read(self):
        """Blocks until the server sends something."""
        filled, view = self._filled, self._view
        count = os.readv(self.requests, (view[filled:] if filled else view,))
        if count == 0:
            os._exit(0)  # The server is gone; nothing that this process knows matters any more.
        filled += count
        at = end = 0
        while filled - at >= 16:
            length, kind, count, frame_id = _HEAD(view, at)
            end = at + length
            if end > filled:
                break
            body = bytes(view[at + 16 : end])
            at = end
            handler = self.handlers.get(kind)
            if handler is None:
                self.pending.append((kind, count, frame_id, body))
            else:
                handler(count, frame_id, body)
        if at == filled:
            self._filled = 0
        elif at or end > len(view):
            self._keep_rest(at, filled)
        else:
            self._filled = filled

    def _keep_rest(self, at, filled):
        """Leaves the start of a frame where there is room for all of it."""
        rest = bytes(self._view[at:filled])
        wanted = _HEAD(rest)[0] if len(rest) >= 16 else 0
        if wanted > len(self._buffer):
            self._buffer = bytearray(wanted)
            self._view = memoryview(self._buffer)
        self._view[: len(rest)] = rest
        self._filled = len(rest)

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
