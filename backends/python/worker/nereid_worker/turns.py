"""Several threads wait for what comes through one channel: one of them reads for all.

Whoever reads wakes exactly those who have got what they wait for, and when it goes, one of the
others takes its turn. Waking them all each time would let them fight for the interpreter.
"""

import threading


class _Waiter:
    __slots__ = ("ready", "woken")

    def __init__(self, ready):
        self.ready = ready
        self.woken = threading.Lock()
        self.woken.acquire()


class Turns:
    """`read` reads once. `work` tells how much there is for threads that wait for any work."""

    def __init__(self, read, work):
        self._read = read
        self._work = work
        # Called when a thread has read that did not do so for itself alone.
        self.notify = None
        self._turn = threading.Lock()
        # Guards what follows. As long as no thread had to wait, there is nobody to look after.
        self._guard = threading.Lock()
        self._waiting = []
        self._shared = False

    def wait_for_work(self):
        """Returns when there is work; another thread may be faster."""
        self.wait(self._work)

    def wait(self, ready):
        """Reads, or lets another thread read, until `ready()`."""
        turn = self._turn
        while True:
            if turn.acquire(False):
                try:
                    while not ready():
                        self._read()
                        if self._shared:
                            self._wake(ready)
                        if self.notify is not None:
                            self.notify()
                    return
                finally:
                    turn.release()
                    if self._shared:
                        self._pass_turn()
            if self._wait_for_another(ready):
                return

    def read_if(self, there):
        """Reads once if nobody else does and `there()`."""
        if self._turn.acquire(False):
            try:
                if there():
                    self._read()
                    if self._shared:
                        self._wake(None)
            finally:
                self._turn.release()
                if self._shared:
                    self._pass_turn()

    def _wait_for_another(self, ready):
        """Waits until another thread has brought what this one waits for; False if this one should
        read itself."""
        self._shared = True  # Before the look: who reads looks there after it has read.
        with self._guard:
            if ready():
                return True
            if not self._turn.locked():
                return False
            waiter = _Waiter(ready)
            self._waiting.append(waiter)
        waiter.woken.acquire()
        if not ready():
            return False
        # It may have been woken to read, which now another one must.
        if not self._turn.locked():
            self._pass_turn()
        return True

    def _wake(self, reader):
        """Wakes those who have got what they wait for: for each piece of work one."""
        with self._guard:
            work = self._work() - (reader is self._work)
            for waiter in self._waiting[:]:
                if waiter.ready is self._work:
                    work -= 1
                    wanted = work >= 0
                else:
                    wanted = waiter.ready()
                if wanted:
                    self._waiting.remove(waiter)
                    waiter.woken.release()

    def _pass_turn(self):
        with self._guard:
            if self._waiting:
                self._waiting.pop(0).woken.release()
