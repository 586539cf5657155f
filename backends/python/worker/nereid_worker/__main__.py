"""Entry point: `python -m nereid_worker`, started by the server with its channel in the environment."""

import ctypes
import os
import signal
import sys

# Of 1000: as if it had this share of the machine's memory besides its own.
_SOONER = 300


def die_with_server() -> None:
    """Ask the kernel to end this process when the server ends, however it ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    # The server may have ended before the kernel was asked.
    if os.getppid() != int(os.environ["NEREID_SERVER_PID"]):
        os._exit(0)


def die_before_server() -> None:
    """Where memory runs out, the kernel should end a model and not the server, which shares the
    memory of all tensors with it."""
    try:
        with open("/proc/self/oom_score_adj") as score:
            present = int(score.read())
        if present < _SOONER:
            with open("/proc/self/oom_score_adj", "w") as score:
                score.write(str(_SOONER))
    except (OSError, ValueError):
        pass  # It is a wish, and not every container has this file.


if __name__ == "__main__":
    die_with_server()
    die_before_server()
    # A Ctrl-C in a terminal is for the server, which then ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a model's libraries read (argparse, unittest) is not meant for them. It is Triton's, too.
    sys.argv = [""]
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        sys.exit("the Python environment of %s cannot run models: %s" % (sys.executable, error))
    from nereid_worker.loop import run

    sys.exit(run())
