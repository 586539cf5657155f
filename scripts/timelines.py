#!/usr/bin/env python3
"""Replays the scenarios of tests/timelines on a Triton server, and records in them what it ran.

    scripts/timelines.py write FOLDER                # a repository with a model for each scenario
    tritonserver --model-repository FOLDER ...       # on the same machine
    scripts/timelines.py record FOLDER --url localhost:8001 [--only NAME] [--show]

`--scale` stretches the time of the scenarios, for machines that are busy; give it both times. A
scenario with a section `environment` needs a server that was started with those variables; it is
recorded only if `--only` names it. Of scenarios with several models those of ensembles are recorded.
"""

import argparse
import functools
import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient

SCENARIOS = Path(__file__).resolve().parents[1] / "tests/timelines"

MODEL = '''
import json, os, time
import numpy as np
import triton_python_backend_utils as pb_utils

AGAIN = {again!r}

class TritonPythonModel:
    def initialize(self, args):
        self.log = open(os.path.join(args["model_repository"], "batches"), "a", buffering=1)
        self.again = dict(AGAIN)

    def execute(self, requests):
        self.log.write(json.dumps([time.time(), " ".join(map(name, requests))]) + "\\n")
        time.sleep({takes})
        return [self.answer(request) for request in requests] if not {decoupled} else self.send(requests)

    def answer(self, request):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.zeros((1, 1), np.int32))])

    def send(self, requests):
        for request in requests:
            left = self.again.get(request.request_id(), 0)
            if left:
                self.again[request.request_id()] = left - 1
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            else:
                final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                request.get_response_sender().send(self.answer(request), final)

def name(request):
    ready = pb_utils.get_input_tensor_by_name(request, "READY")
    return "-" if ready is not None and not ready.as_numpy().any() else request.request_id()
'''


def read(path):
    """The sections of a scenario."""
    sections, lines = {}, None
    for line in path.read_text().splitlines():
        if line.startswith("    "):
            lines.append(line[4:])
        elif line and not line.startswith("#"):
            lines = sections.setdefault(line, [])
    return sections


def options(words):
    """`rows=2 start` as a dict."""
    pairs = (word.partition("=") for word in words if not word.startswith("to="))
    return {key: int(value) if value else True for key, _, value in pairs}


# A model among others: where it differs from MODEL.
MEMBER = MODEL.replace("(1, 1), np.int32", "1, np.int32")


def members(sections):
    """The sections of models that play together, by name; none of a scenario with one model."""
    return {name[6:]: lines for name, lines in sections.items() if name.startswith("model ")}


def can_play(sections):
    """Whether this Triton can: it has no limit on what ensembles have in flight, and a rate limiter
    needs flags of its own."""
    lines = "".join(line for section in sections.values() for line in section)
    return "supply" not in sections and "max_inflight_requests" not in lines


def write_members(folder, stem, sections, scale):
    """Models named after their scenario, and the ensemble that takes its name."""
    for name, lines in members(sections).items():
        if any("ensemble_scheduling" in line for line in lines):
            config = re.sub(r'model_name: "', 'model_name: "%s_' % stem, "\n".join(lines))
            (folder / stem / "1").mkdir(parents=True, exist_ok=True)
            (folder / stem / "config.pbtxt").write_text(config)
            continue
        _, takes = map(int, re.findall(r"\d+", lines[0])[:2])
        steps = "".join(line for other in members(sections).values() for line in other)
        [reads] = {
            tuple(re.findall(r'input_map { key: "(\w+)"', step))
            for step in re.findall(r'model_name: "%s".*?output_map' % name, steps)
        }
        tensor = '{ name: "%s" data_type: TYPE_INT32 dims: [ 1 ] }'
        config = "\n".join(lines[1:]) + '\nbackend: "python"\n'
        config += "input [ %s ]\n" % ", ".join(tensor % read for read in reads)
        config += "output [ %s ]\n" % tensor % "OUT"
        config += "instance_group [ { kind: KIND_CPU } ]\n"
        version = folder / ("%s_%s" % (stem, name)) / "1"
        version.mkdir(parents=True, exist_ok=True)
        model = MEMBER.format(again={}, takes=takes * scale / 1000, decoupled=False)
        (version / "model.py").write_text(model)
        (version.parent / "config.pbtxt").write_text(config)


def write(folder, scale):
    for path in sorted(SCENARIOS.glob("*.txt")):
        sections = read(path)
        if members(sections):
            if can_play(sections):
                write_members(folder, path.stem, sections, scale)
            continue
        instances, takes = map(int, re.findall(r"\d+", sections["model"][0]))
        config = "\n".join(sections["config"])
        config = re.sub(r"(_microseconds: )(\d+)", lambda m: m[1] + str(int(m[2]) * scale), config)
        if not re.search(r"(?m)^input", config):
            config += '\ninput [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]'
        config += '\nbackend: "python"\ninstance_group [ { kind: KIND_CPU count: %d } ]' % instances
        config += '\noutput [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]\n'
        events = [line.split() for line in sections["requests"]]
        again = {words[1]: options(words[2:]).get("again", 0) for words in events}
        model = MODEL.format(
            again=again, takes=takes * scale / 1000, decoupled="decoupled: true" in config
        )
        version = folder / path.stem / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version / "model.py").write_text(model)
        (folder / path.stem / "config.pbtxt").write_text(config)


class Replay:
    """One scenario, sent to a server."""

    def __init__(self, client, folder, name, scale):
        self.client, self.name, self.scale = client, name, scale
        self.sections = read(SCENARIOS / (name + ".txt"))
        self.logs = {"": folder / name / "batches"}
        if members(self.sections):
            names = [m for m in members(self.sections) if (folder / ("%s_%s" % (name, m))).exists()]
            self.logs = {m: folder / ("%s_%s" % (name, m)) / "batches" for m in names}
        self.decoupled = any("decoupled: true" in line for line in self.sections.get("config", []))
        self.rejected, self.calls, self.left = [], {}, 0
        self.answered = threading.Condition()

    def run(self):
        """What happened, in order."""
        for log in self.logs.values():
            log.write_text("")
        if self.decoupled:
            self.client.start_stream(functools.partial(self.answer, "somebody"))
        began = time.time()
        for line in self.sections["requests"]:
            at, what, *words = line.split()
            time.sleep(max(0, began + int(at) * self.scale / 1000 - time.time()))
            if what == "cancel":
                self.calls[words[0]].cancel()
            else:
                self.send(what, options(words))
        with self.answered:
            self.answered.wait_for(lambda: self.left == 0, timeout=10 * self.scale)
        if self.decoupled:
            self.client.stop_stream()
        batches = [
            [at, "%s on %s" % (what, name) if name else what]
            for name, log in self.logs.items()
            for at, what in map(json.loads, log.read_text().splitlines())
        ]
        happened = sorted(batches + self.rejected)
        return [what for _, what in (together(happened) if "" not in self.logs else happened)]

    def send(self, name, said):
        names = ["IN", "MORE"] if said.get("more") else ["IN"]
        shape = [said.get("rows", 1), said.get("columns", 1)]
        if members(self.sections):
            shape = [1]
        inputs = [grpcclient.InferInput(name, shape, "INT32") for name in names]
        for tensor in inputs:
            tensor.set_data_from_numpy(np.zeros(shape, np.int32))
        details = dict(
            request_id=name,
            priority=said.get("priority", 0),
            timeout=said.get("timeout", 0) * 1000 * self.scale or None,
            sequence_id=said.get("sequence", 0),
            sequence_start=said.get("start", False),
            sequence_end=said.get("end", False),
        )
        self.left += 1
        if self.decoupled:
            self.client.async_stream_infer(self.name, inputs, **details)
        else:
            callback = functools.partial(self.answer, name)
            self.calls[name] = self.client.async_infer(self.name, inputs, callback, **details)

    def answer(self, name, result, error):
        with self.answered:
            # Who cancels is told so by its own library, whatever the server makes of it.
            if error is not None and error.message() and "ancelled" not in error.message():
                text = error.message().replace("'%s'" % self.name, "'m'")
                self.rejected.append([time.time(), "%s rejected: %s" % (name, text)])
            self.left -= 1
            self.answered.notify()


def together(happened):
    """What happens to several models at the same moment has no order but that of their names."""
    moment, before = 0, None
    moments = []
    for at, what in happened:
        moment += before is not None and at - before > 0.02
        before = at
        moments.append((moment, what))
    return sorted(moments)


def keep(path, outcome):
    """Puts the outcome into the scenario's file."""
    text = path.read_text()
    section = "triton\n" + "".join("    %s\n" % line for line in outcome)
    old = re.search(r"(?m)^triton\n(    .*\n)*", text)
    text = text.replace(old[0], section) if old else text.rstrip("\n") + "\n\n" + section
    path.write_text(text)


def record(folder, url, scale, only, show):
    client = grpcclient.InferenceServerClient(url)
    for path in sorted(SCENARIOS.glob("*.txt")):
        sections = read(path)
        if only and path.stem != only or not can_play(sections):
            continue
        if "environment" in sections and not only:
            continue
        outcome = Replay(client, folder, path.stem, scale).run()
        print("%s\n    %s" % (path.stem, "\n    ".join(outcome)), flush=True)
        if not show:
            keep(path, outcome)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["write", "record"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="localhost:8001", help="of the server's gRPC")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--only", help="one scenario")
    parser.add_argument("--show", action="store_true", help="print, do not record")
    arguments = parser.parse_args()
    if arguments.what == "write":
        write(arguments.folder, arguments.scale)
    else:
        record(
            arguments.folder, arguments.url, arguments.scale, arguments.only, arguments.show
        )


if __name__ == "__main__":
    main()
