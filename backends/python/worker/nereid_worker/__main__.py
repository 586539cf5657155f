"""Entry point: `python -m nereid_worker`, started by the server with its channel in the environment."""

import ctypes
import os
import signal
import sys


def die_with_server() -> None:
    """Ask the kernel to end this process when the server ends, however it ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    # The server may have ended before the kernel was asked.
    if os.getppid() != int(os.environ["NEREID_SERVER_PID"]):
        os._exit(0)


if __name__ == "__main__":
    die_with_server()
    # A Ctrl-C in a terminal is for the server, which then ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        sys.exit("the Python environment of %s cannot run models: %s" % (sys.executable, error))
    from nereid_worker.loop import run

    sys.exit(run())
