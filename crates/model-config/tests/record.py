"""Asks a running Triton what it makes of each configuration here, and records its answers.

    record.py SERVER_URL EMPTY_REPOSITORY SERVER_LOG

The server runs on EMPTY_REPOSITORY with --model-control-mode=explicit --log-verbose=1. Each
`FOLDER/NAME.pbtxt` becomes the model NAME:

- `served`: its `/config` is kept as `NAME.json`;
- `accepted`: it should load;
- `rejected`, `rejected_later`: it should not; the reason is kept as `NAME.txt`. For some of them
  Triton only says "failed to poll", and the reason comes from SERVER_LOG;
- `unreadable`: it should not load, for it is no text format.
"""

import json, pathlib, re, sys, urllib.error, urllib.request

URL, REPOSITORY, LOG = sys.argv[1], *map(pathlib.Path, sys.argv[2:4])
HERE = pathlib.Path(__file__).parent
MODEL = """
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([]) for _ in requests]
"""


def call(path, body=None):
    request = urllib.request.Request(URL + path, data=body)
    try:
        return urllib.request.urlopen(request, timeout=60).read().decode()
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["error"]


def load(config):
    folder = REPOSITORY / config.stem
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "model.py").write_text(MODEL)
    (folder / "config.pbtxt").write_bytes(config.read_bytes())
    (folder / "labels.txt").write_text("a\nb\n")
    answer = call(f"/v2/repository/models/{config.stem}/load", b"")
    return reason(config.stem, answer)


def reason(model, answer):
    if "failed to poll" in answer:
        lines = re.findall(f"Poll failed for model directory '{model}': (.*)\"\n", LOG.read_text())
        return lines[-1] if lines else answer
    version = re.search("version 1 is at UNAVAILABLE state: (.*?)[;\n]*$", answer, re.DOTALL)
    return version[1] if version else answer


for config in sorted((HERE / "served").glob("*.pbtxt"), key=lambda c: c.stem == "ensemble"):
    why = load(config)
    if why:
        print("not served:", config.stem, why)
        continue
    answer = json.loads(call(f"/v2/models/{config.stem}/config"))
    config.with_suffix(".json").write_text(json.dumps(answer, indent=1, ensure_ascii=False) + "\n")
    if config.stem != "plain":  # The ensembles need it.
        call(f"/v2/repository/models/{config.stem}/unload", b"")
for config in sorted(HERE.glob("*/*.pbtxt")):
    folder = config.parent.name
    if folder == "served":
        continue
    why = load(config)
    if bool(why) == (folder == "accepted"):
        print("unexpected:", folder, config.stem, why or "(loaded)")
    elif folder.startswith("rejected"):
        config.with_suffix(".txt").write_text(why + "\n")
    if not why:
        call(f"/v2/repository/models/{config.stem}/unload", b"")
