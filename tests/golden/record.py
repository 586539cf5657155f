"""Records the answers of a real Triton server.

    python tests/golden/record.py repository FOLDER   writes the models to serve
    python tests/golden/record.py answers HTTP GRPC   asks the server that serves them, at its ports

    python tests/golden/record.py guarded-repository FOLDER
    python tests/golden/record.py guarded-answers HTTP GRPC

That server is given the flags in `guarded.py`.

    python tests/golden/record.py python-repository FOLDER
    python tests/golden/record.py python-answers FOLDER HTTP GRPC

The Python models are served with `--model-control-mode=explicit`, and without any at the start.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golden import guarded  # noqa: E402
from golden.calls import calls  # noqa: E402
from golden.exchange import ask  # noqa: E402
from golden.python import scenarios  # noqa: E402
from golden.requests import repository, requests  # noqa: E402


def write(recording, answers):
    """One answer a line."""
    lines = ["%s: %s" % (json.dumps(n), json.dumps(a)) for n, a in answers.items()]
    recording.write_text("{\n%s\n}\n" % ",\n".join(lines))
    print("%d answers in %s" % (len(answers), recording))


if __name__ == "__main__":
    here = Path(__file__).parent
    what, *where = sys.argv[1:]
    if what == "repository":
        repository(*where)
    elif what == "answers":
        http_port, grpc_port = map(int, where)
        answers = {name: ask(http_port, *rest) for name, *rest in requests()}
        answers.update(calls(http_port, grpc_port))
        write(here / "triton-2.51.json", answers)
    elif what == "guarded-repository":
        guarded.repository(*where)
    elif what == "guarded-answers":
        write(here / "guarded-2.51.json", guarded.answers(*map(int, where)))
    elif what == "python-repository":
        scenarios.repository(*where)
    else:
        folder, http_port, grpc_port = where
        answers = scenarios.answers(folder, int(http_port), int(grpc_port))
        write(here / "python/triton-2.51.json", answers)
