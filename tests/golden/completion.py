"""Models whose configurations are completed, or refused, when they are loaded: what a real Triton makes
of each stands in `completion-2.51.json`.

    python tests/golden/completion.py repository FOLDER   writes the models
    python tests/golden/completion.py record HTTP         asks the server that serves them, in mode
                                                          explicit, at its port
"""

import json
import sys
import textwrap
import urllib.error
import urllib.request
from pathlib import Path

RECORDING = Path(__file__).with_name("completion-2.51.json")

MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
%s
        return config

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""
PLAIN = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""
TENSORS = 'input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ] output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]'
BACKEND = 'backend: "python" '
IN, OUT = "{'name': 'IN', 'data_type': 'TYPE_FP32', 'dims': [4]}", "{'name': 'OUT', 'data_type': 'TYPE_FP32', 'dims': [4]}"
BOTH = "config.add_input(%s); config.add_output(%s)" % (IN, OUT)


def ensemble(steps, tensors='input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ] output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]', more="max_batch_size: 8"):
    step = 'step { model_name: "%s" model_version: %s input_map { key: "%s" value: "%s" } output_map { key: "%s" value: "%s" } }'
    return 'platform: "ensemble" %s %s ensemble_scheduling { %s }' % (more, tensors, " ".join(step % s for s in steps))


# Name: what `auto_complete_config` does (None: there is none), and the text of config.pbtxt (None:
# there is no such file).
CASES = {
    "no_file": (BOTH, None),
    "no_file_batch": (BOTH + "; config.set_max_batch_size(8)", None),
    "no_file_dynamic": (BOTH + "; config.set_max_batch_size(8); config.set_dynamic_batching()", None),
    "no_file_nothing": (None, None),
    "no_file_empty": ("pass", None),
    "backend_only": (BOTH, BACKEND),
    "name_only": (BOTH, 'name: "name_only"'),
    "other_name": (BOTH, 'name: "somebody"'),
    "nothing_to_add": ("pass", BACKEND + TENSORS),
    "complete": (None, BACKEND + "max_batch_size: 4 " + TENSORS),
    "no_inputs": ("config.add_output(%s)" % OUT, BACKEND),
    "no_outputs": ("config.add_input(%s)" % IN, BACKEND),
    "no_outputs_written": (None, BACKEND + TENSORS.split(" output")[0]),
    "agrees": (BOTH, BACKEND + TENSORS),
    "another_type": ("config.add_input(%s)" % IN.replace("FP32", "INT32"), BACKEND + TENSORS),
    "another_shape": ("config.add_input(%s)" % IN.replace("[4]", "[5]"), BACKEND + TENSORS),
    "more_inputs": ("config.add_input(%s)" % IN.replace("'IN'", "'MORE'"), BACKEND + TENSORS),
    "optional": ("config.add_input(%s); config.add_output(%s)" % (IN.replace("}", ", 'optional': True}"), OUT), BACKEND),
    "unknown_key": ("config.add_input(%s)" % IN.replace("}", ", 'wrong': 1}"), BACKEND + TENSORS),
    "no_name": ("config.add_input({'data_type': 'TYPE_FP32', 'dims': [4]})", BACKEND + TENSORS),
    "no_type": ("config.add_input({'name': 'IN', 'dims': [4]})", BACKEND),
    "no_dims": ("config.add_input({'name': 'IN', 'data_type': 'TYPE_FP32'})", BACKEND),
    "bad_type": ("config.add_input({'name': 'IN', 'data_type': 'FP32', 'dims': [4]}); config.add_output(%s)" % OUT, BACKEND),
    "output_key": ("config.add_output(%s)" % OUT.replace("}", ", 'optional': True}"), BACKEND + TENSORS),
    "larger_batch": ("config.set_max_batch_size(16)", BACKEND + "max_batch_size: 8 " + TENSORS),
    "smaller_batch": ("config.set_max_batch_size(2)", BACKEND + "max_batch_size: 8 " + TENSORS),
    "zero_batch": ("config.set_max_batch_size(0)", BACKEND + "max_batch_size: 8 " + TENSORS),
    "dynamic_and_sequence": ("config.set_dynamic_batching()", BACKEND + "max_batch_size: 8 sequence_batching { } " + TENSORS),
    "dynamic_written": ("config.set_dynamic_batching()", BACKEND + "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 100 } " + TENSORS),
    "decoupled": (BOTH + "; config.set_model_transaction_policy(dict(decoupled=True))", BACKEND),
    "decoupled_key": (BOTH + "; config.set_model_transaction_policy(dict(wrong=True))", BACKEND),
    "decoupled_written": ("config.set_model_transaction_policy(dict(decoupled=True))", BACKEND + "model_transaction_policy { decoupled: false } " + TENSORS),
    "raises": ("raise ValueError('no such luck')", BACKEND + TENSORS),
    "raises_model_error": ("raise pb_utils.TritonModelException('no such luck')", BACKEND + TENSORS),
    "returns_none": (BOTH + "; return None", BACKEND + TENSORS),
    "returns_text": ("return 'config'", BACKEND + TENSORS),
    "as_dict": ("d = config.as_dict(); d['max_batch_size'] = 3; " + BOTH, BACKEND),
    "parameters": (BOTH, BACKEND + 'parameters { key: "a" value { string_value: "b" } }'),
    "instances": (BOTH, BACKEND + "instance_group [ { count: 2 kind: KIND_CPU } ]"),
    "syntax_error": ("1 +", BACKEND + TENSORS),
    # Not completed, but validated.
    "unknown_backend": (None, 'backend: "nobody" ' + TENSORS),
    "wrong_platform": (None, 'platform: "nobody" ' + TENSORS),
    "negative_batch": (None, BACKEND + "max_batch_size: -1 " + TENSORS),
    "no_version": (None, BACKEND + "version_policy { specific { versions: [ 7 ] } } " + TENSORS),
    "zero_dim": (None, BACKEND + TENSORS.replace("dims: [ 4 ]", "dims: [ 0 ]", 1)),
    "no_such_field": (None, BACKEND + "max_batch: 8 " + TENSORS),
    "gpu": (None, BACKEND + "instance_group [ { count: 1 kind: KIND_GPU } ] " + TENSORS),
    "no_labels": (None, BACKEND + TENSORS.replace("dims: [ 4 ] } ]", 'dims: [ 4 ] label_filename: "none.txt" } ]').replace('dims: [ 4 ] label_filename: "none.txt" } ]', "dims: [ 4 ] } ]", 1)),
    # Ensembles; `complete` and `agrees` are among their members.
    "e_fine": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Y")], more="max_batch_size: 4")),
    "e_chain": (None, ensemble([("complete", -1, "IN", "X", "OUT", "M"), ("complete", 1, "IN", "M", "OUT", "Y")], more="max_batch_size: 4")),
    "e_larger_batch": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Y")])),
    "e_no_batch_member": (None, ensemble([("agrees", -1, "IN", "X", "OUT", "Y")])),
    "e_no_model": (None, ensemble([("nobody", -1, "IN", "X", "OUT", "Y")])),
    "e_no_version": (None, ensemble([("complete", 3, "IN", "X", "OUT", "Y")], more="max_batch_size: 4")),
    "e_no_input": (None, ensemble([("complete", -1, "WRONG", "X", "OUT", "Y")], more="max_batch_size: 4")),
    "e_no_output": (None, ensemble([("complete", -1, "IN", "X", "WRONG", "Y")], more="max_batch_size: 4")),
    "e_type": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Y")], more="max_batch_size: 4").replace("FP32", "INT32", 1)),
    "e_shape": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Y")], more="max_batch_size: 4").replace("dims: [ 4 ]", "dims: [ 5 ]", 1)),
    "e_output_shape": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Y")], more="max_batch_size: 4").replace('name: "Y" data_type: TYPE_FP32 dims: [ 4 ]', 'name: "Y" data_type: TYPE_FP32 dims: [ 4, 1 ]')),
    "e_wildcard": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Y")], more="max_batch_size: 4").replace("dims: [ 4 ]", "dims: [ -1 ]")),
    "e_unused": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Z")], more="max_batch_size: 4")),
    "e_itself": (None, ensemble([("e_itself", -1, "X", "X", "Y", "Y")], more="max_batch_size: 4")),
    "e_broken_member": (None, ensemble([("raises", -1, "IN", "X", "OUT", "Y")], more="max_batch_size: 4")),
    "e_instances": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Y")], more="max_batch_size: 4 instance_group [ { count: 2 } ]")),
    "e_backend": (None, ensemble([("complete", -1, "IN", "X", "OUT", "Y")], more='max_batch_size: 4 backend: "python"')),
}


def write(folder):
    for name, (completes, config) in CASES.items():
        version = Path(folder) / name / "1"
        version.mkdir(parents=True)
        if config is not None:
            (version.parent / "config.pbtxt").write_text(config)
        if not name.startswith("e_"):
            body = PLAIN if completes is None else MODEL % textwrap.indent(completes, " " * 8)
            (version / "model.py").write_text(body)


def call(port, path, body=None):
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), data=body)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.read().decode()
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["error"]


def answer(port, name):
    """The configuration that a server has completed, or what it says against the model."""
    failure = call(port, "/v2/repository/models/%s/load" % name, b"")
    if not failure:
        return {"config": json.loads(call(port, "/v2/models/%s/config" % name))}
    entries = json.loads(call(port, "/v2/repository/index", b""))
    reasons = [entry["reason"] for entry in entries if entry["name"] == name and entry.get("reason")]
    return {"error": failure.strip(), "reason": reasons[:1]}


if __name__ == "__main__":
    what, where = sys.argv[1:]
    if what == "repository":
        write(where)
    else:
        answers = {name: answer(int(where), name) for name in CASES}
        lines = ["%s: %s" % (json.dumps(n), json.dumps(a)) for n, a in answers.items()]
        RECORDING.write_text("{\n%s\n}\n" % ",\n".join(lines))
