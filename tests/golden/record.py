"""Records the answers of a real Triton server.

    python tests/golden/record.py repository FOLDER   writes the models to serve
    python tests/golden/record.py answers HTTP GRPC   asks the server that serves them, at its ports
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golden.calls import calls  # noqa: E402
from golden.exchange import ask  # noqa: E402
from golden.requests import repository, requests  # noqa: E402

if __name__ == "__main__":
    what, *where = sys.argv[1:]
    if what == "repository":
        repository(*where)
    else:
        http_port, grpc_port = map(int, where)
        answers = {name: ask(http_port, *rest) for name, *rest in requests()}
        answers.update(calls(http_port, grpc_port))
        lines = ["%s: %s" % (json.dumps(n), json.dumps(a)) for n, a in answers.items()]
        recording = Path(__file__).with_name("triton-2.51.json")
        recording.write_text("{\n%s\n}\n" % ",\n".join(lines))
        print("%d answers in %s" % (len(answers), recording))
