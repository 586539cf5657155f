"""What is asked of the models in `models`, by name; every request is made one after the other.

Left out is what Triton 2.51 never answers: `execute` that returns None or a list of None, a
coroutine that raises, a request that is sent on as it came, a numpy array in DLPack. Tests of their
own show what Nereid does.
"""

import json
import re
import shutil
from pathlib import Path

import grpc
from golden.exchange import ask, call, stream
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

MODELS = Path(__file__).with_name("models")
CASES = {
    path.parents[1].name: re.findall(r"def case_(\w+)", path.read_text())
    for path in sorted(MODELS.glob("*/1/model.py"))
}
STREAMED = "decoupled", "coroutine"
PLAIN = "returns", "default_sender", "api", "bls"

# Lines of a traceback that are not the model's.
FOREIGN = r"  (/[^ ]*/lib/python3|/[^ ]*triton_python_backend_utils|<frozen )[^(]*\(\d+\): \w+\\n"
# What differs from one server, machine or run to another.
OWN = r" at 0x[0-9a-f]+|(?<=environment of )[^)]+"


def repository(folder):
    """Puts the models into a folder."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(MODELS, folder, dirs_exist_ok=True, ignore=unwanted)


def answers(folder, http_port, grpc_port):
    """Every answer by its name. The server must serve `folder` in mode explicit, with no models."""

    def post(path, body):
        return ask(http_port, "POST", "/v2/" + path, {}, json.dumps(body).encode())

    found = {"load " + model: post("repository/models/%s/load" % model, {}) for model in CASES}
    for model in ("complete_whole", "complete_larger_batch"):
        found["configuration " + model] = _configuration(http_port, model)
    for model in PLAIN:
        for case in CASES[model]:
            found["%s %s" % (model, case)] = post("models/%s/infer" % model, _case(model, case))
    for name, body in _requests().items():
        found["request " + name] = post("models/request/infer", body)
    with grpc.insecure_channel("127.0.0.1:%d" % grpc_port) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        found["bf16"] = call(stub.ModelInfer, _bf16())
        for model in STREAMED:
            for case in CASES[model]:
                found["%s %s" % (model, case)] = stream(stub, [_streamed(model, case)])
    found["unload raising_finalize"] = post("repository/models/raising_finalize/unload", {})
    return json.loads(_anywhere(json.dumps(found), folder))


def _anywhere(text, folder):
    """Without what differs from one server, machine or run to another."""
    text = re.sub("  +", " ", re.sub(OWN, "", re.sub(FOREIGN, "", text)))
    return text.replace(str(folder), "REPOSITORY")


def _case(model, case):
    shape = [1, 1] if model == "returns" else [1]
    return {"inputs": [{"name": "CASE", "shape": shape, "datatype": "BYTES", "data": [case]}]}


def _requests():
    """Requests to a model that tells what it sees of them."""
    plain = {**_case("request", "x"), "outputs": [{"name": "OUT"}]}
    everything = {
        "sequence_id": 7, "sequence_start": True, "sequence_end": True, "priority": 3,
        "timeout": 9_000_000, "a": 1, "b": "x", "c": True, "d": 1.5,
    }
    return {
        "plain": plain,
        "all outputs": _case("request", "x"),
        "two outputs": {**plain, "outputs": [{"name": "OUT"}, {"name": "MORE"}]},
        "id": {**plain, "id": "seven"},
        "parameters": {**plain, "parameters": everything},
        "a sequence with a name": {**plain, "parameters": {"sequence_id": "seven"}},
    }


def _streamed(model, case):
    text = len(case).to_bytes(4, "little") + case.encode()
    made = messages.ModelInferRequest(model_name=model, raw_input_contents=[text])
    made.parameters["triton_enable_empty_final_response"].bool_param = True
    made.inputs.add(name="CASE", datatype="BYTES", shape=[1])
    return made


def _bf16():
    """1.0 and 2.0."""
    made = messages.ModelInferRequest(model_name="bf16", raw_input_contents=[b"\x80\x3f\0\x40"])
    made.inputs.add(name="IN", datatype="BF16", shape=[2])
    return made


def _configuration(http_port, model):
    """The fields that a model can complete."""
    status, kind, config = ask(http_port, "GET", "/v2/models/%s/config" % model, {}, b"")
    names = "name", "backend", "max_batch_size", "input", "output", "dynamic_batching"
    names += ("model_transaction_policy",)
    return [status, kind, {name: config.get(name) for name in names}]
