"""Tensors of Python models that lie in the memory of GPUs, where a stand-in for NVIDIA's driver
(`gpu/libcuda.c`) takes the place of GPUs."""

import base64
import ctypes
import json
import os
import sys
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import Server, write_model
from tritonclient.utils import InferenceServerException

GPU = Path(__file__).parent / "gpu"

HEAD = """
    import gc, json, os
    import numpy as np
    import triton_python_backend_utils as pb_utils
    from gpu_array import Array

    def read(request):
        return pb_utils.get_input_tensor_by_name(request, "IN")

    def gpu(name, values, device=0):
        return pb_utils.Tensor.from_dlpack(name, Array(values, device))

    def answer(tensor):
        return pb_utils.InferenceResponse([tensor])

    def call(model, tensor, **more):
        return pb_utils.InferenceRequest(
            model_name=model, inputs=[tensor], requested_output_names=["OUT"], **more)

    class TritonPythonModel:
        def execute(self, requests):
            return [self.one(request) for request in requests]
"""

CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
    output [ { name: "OUT" data_type: %s dims: [ %s ] } ]
"""
ON_CPU = "instance_group { kind: KIND_CPU }"
ANSWERS = CONFIG % ("TYPE_FP32", "-1, 4") + ON_CPU
TELLS = CONFIG % ("TYPE_STRING", "1")
# Inputs may stay where they are.
STAY = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value: { string_value: "no" } }'

MODELS = {
    "makes": (ANSWERS, """
        def one(self, request):
            x = read(request).as_numpy()
            return answer(gpu("OUT", x * 2, int(x[0, 0]) % 2))
    """),
    "takes": (ANSWERS + STAY, """
        def one(self, request):
            x = read(request)
            if x.is_cpu():
                raise pb_utils.TritonModelException("it lies in the CPU's memory")
            array = Array.of(x)
            return answer(gpu("OUT", array.numpy() + 1, array.device))
    """),
    "takes_cpu": (ANSWERS, """
        def one(self, request):
            return answer(pb_utils.Tensor("OUT", read(request).as_numpy() + 1))
    """),
    "echoes": (ANSWERS + STAY, """
        def one(self, request):
            return answer(pb_utils.Tensor.from_dlpack("OUT", read(request)))
    """),
    "cuts": (ANSWERS + STAY, """
        def one(self, request):
            return answer(pb_utils.Tensor.from_dlpack("OUT", Array.of(read(request)).part(1, 2)))
    """),
    "forwards": (ANSWERS + STAY, """
        def one(self, request):
            parts = Array.of(read(request)).part(1, 3)
            return answer(call("takes", pb_utils.Tensor.from_dlpack("IN", parts)).exec()
                .output_tensors()[0])
    """),
    "keeps": (ANSWERS + STAY, """
        kept = None
        def one(self, request):
            before, self.kept = self.kept, None
            if before is None:
                self.kept = read(request)
                return answer(pb_utils.Tensor("OUT", np.zeros((1, 4), np.float32)))
            return answer(pb_utils.Tensor("OUT", Array.of(before).numpy()))
    """),
    "dies": (ANSWERS + STAY, """
        def one(self, request):
            os._exit(3)
    """),
    "sends": (ANSWERS + STAY + " model_transaction_policy { decoupled: true }", """
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                for number in range(3):
                    sender.send(answer(gpu("OUT", Array.of(read(request)).numpy() + number)))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    """),
    # Runs the case that its input's first number stands for, and tells what has come of it.
    "tests": (TELLS + ON_CPU, """
        def one(self, request):
            x = read(request).as_numpy()
            cases = [name for name in vars(type(self)) if name.startswith("case_")]
            told = json.dumps(getattr(self, cases[int(x[0, 0])])(x))
            gc.collect()
            return answer(pb_utils.Tensor("OUT", np.array([told], np.object_)))

        def told(self, response):
            if response.has_error():
                return response.error().message()
            tensor = response.output_tensors()[0]
            values = Array.of(tensor).numpy() if not tensor.is_cpu() else tensor.as_numpy()
            return [list(map(int, tensor.__dlpack_device__())), values.tolist()]

        def case_within(self, x):
            array = Array(x, 1)
            tensor = pb_utils.Tensor.from_dlpack("X", array)
            try:
                tensor.as_numpy()
            except Exception as error:
                refused = str(error)
            back = Array.of(pb_utils.Tensor.from_dlpack("Y", tensor.to_dlpack()))
            return [tensor.is_cpu(), tensor.__dlpack_device__(), tensor.shape(),
                tensor.triton_dtype(), refused, back.address == array.address,
                back.device, back.numpy().tolist()]

        def case_datatypes(self, x):
            told = []
            for kind in ("?", "u1", "i2", "u4", "i8", "f2", "f8"):
                array = Array(np.ones(3, kind))
                tensor = pb_utils.Tensor.from_dlpack("X", array)
                back = Array.of(tensor)
                assert (back.code, back.dtype.itemsize) == (array.code, array.dtype.itemsize)
                told.append(tensor.triton_dtype())
            half = Array(np.ones(3, "u2"))
            half.code = 4
            tensor = pb_utils.Tensor.from_dlpack("X", half)
            return told + [tensor.triton_dtype(), Array.of(tensor).code]

        def case_gaps(self, x):
            array = Array(x)
            array.strides = (8, 2)
            try:
                pb_utils.Tensor.from_dlpack("X", array)
            except Exception as error:
                return str(error)

        def case_another_takes_it(self, x):
            return self.told(call("takes", gpu("IN", x, 1)).exec())

        def case_another_wants_it_on_the_cpu(self, x):
            return self.told(call("takes_cpu", gpu("IN", x)).exec())

        def case_it_comes_back(self, x):
            array = Array(x)
            response = call("echoes", pb_utils.Tensor.from_dlpack("IN", array)).exec()
            back = Array.of(response.output_tensors()[0])
            return [back.address - array.address, back.numpy().tolist()]

        def case_a_part_comes_back(self, x):
            array = Array(np.concatenate([x, x + 1, x + 2]))
            part = pb_utils.Tensor.from_dlpack("IN", array.part(1, 3))
            back = Array.of(call("cuts", part).exec().output_tensors()[0])
            return [back.address - array.address, back.numpy().tolist()]

        def case_it_is_sent_on(self, x):
            return self.told(call("forwards", gpu("IN", np.concatenate([x, x + 1, x + 2]))).exec())

        def case_the_cpu_is_preferred(self, x):
            memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)
            return self.told(call("takes", gpu("IN", x), preferred_memory=memory).exec())

        def case_a_gpu_is_preferred(self, x):
            memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU, 1)
            tensor = pb_utils.Tensor("IN", x)
            return self.told(call("takes_cpu", tensor, preferred_memory=memory).exec())

        def case_several(self, x):
            return [self.told(one) for one in call("sends", gpu("IN", x)).exec(decoupled=True)
                if one.output_tensors()]

        def case_an_ensemble(self, x):
            return self.told(call("both", pb_utils.Tensor("IN", x)).exec())

        def case_it_is_kept(self, x):
            first = call("keeps", gpu("IN", x)).exec()
            return self.told(call("keeps", gpu("IN", x + 1)).exec())

        def case_another_dies(self, x):
            return self.told(call("dies", gpu("IN", x)).exec())

        def case_none_at_all(self, x):
            return self.told(call("takes_cpu", gpu("IN", np.zeros((0, 4), np.float32))).exec())
    """),
}

# Where an instance runs.
PLACED = HEAD.replace("from gpu_array import Array", "import gpu_array") + """
        def initialize(self, args):
            self.where = "%s %s %s" % (args["model_instance_kind"],
                args["model_instance_device_id"], args["model_instance_name"])
            if args["model_instance_kind"] == "GPU":
                self.where += " %d" % gpu_array.current()
            print("is at", self.where, flush=True)

        def one(self, request):
            return answer(pb_utils.Tensor("OUT", np.array([self.where], np.object_)))
"""
GROUPS = {
    "anywhere": ("", ["GPU 0 anywhere_0 0", "GPU 1 anywhere_1 1"]),
    "auto": ("{ count: 2 }", [f"GPU {gpu} auto_0_{2 * gpu + n} {gpu}" for gpu in (0, 1) for n in (0, 1)]),
    "one": ("{ kind: KIND_GPU gpus: [ 1 ] }", ["GPU 1 one_0_0 1"]),
    "both": ("{ kind: KIND_GPU }, { kind: KIND_CPU }",
        ["GPU 0 both_0_0 0", "GPU 1 both_0_1 1", "CPU 0 both_1_0"]),
    "cpu": ("{ kind: KIND_CPU }", ["CPU 0 cpu_0_0"]),
}

ENSEMBLE = """
    platform: "ensemble"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
    ensemble_scheduling { step [
        { model_name: "makes" model_version: -1
          input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "made" } },
        { model_name: "takes" model_version: -1
          input_map { key: "IN" value: "made" } output_map { key: "OUT" value: "OUT" } } ] }
"""

CASES = [
    line.split("(")[0].split("case_")[1]
    for line in MODELS["tests"][1].splitlines()
    if "def case_" in line
]
X = [10.0, 11.0, 12.0, 13.0]


def row(case):
    """What the model `tests` gets for a case."""
    return [float(CASES.index(case)), *X[1:]]


def added(case, number):
    return [one + number for one in row(case)]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with the stand-in for the driver."""
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libcuda.so.1"
    source = str(GPU / "libcuda.c")
    flags = "-O1 -shared -fPIC -lpthread -Wl,-soname,libcuda.so.1".split()
    subprocess.run(["cc", source, "-o", library, *flags], check=True)
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, (config, body) in MODELS.items():
        write_model(repository, name, config, {"model.py": HEAD + body})
    write_model(repository, "both", ENSEMBLE)
    return repository


class Gpus:
    """A server with the stand-in's GPUs."""

    def __init__(self, repository, driver, folder, *flags, **env):
        self.folder = folder
        env["STAND_IN_GPU"] = str(folder)
        env["LD_LIBRARY_PATH"] = "%s:%s" % (driver, os.environ.get("LD_LIBRARY_PATH", ""))
        env["PYTHONPATH"] = str(GPU)
        self.server = Server(repository, *flags, env=env)

    def log(self):
        """What each process has done, in order."""
        lines = (self.folder / "log").read_text().split("\n")[:-1]
        return [(int(pid), *rest) for pid, *rest in (line.split() for line in lines)]

    def left(self):
        """Memory that has not been freed, once nothing moves any more."""
        until = time.monotonic() + 20
        while True:
            left = [one.name for one in self.folder.iterdir() if one.name != "log"]
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.01)

    def infer(self, model, rows, client=httpclient, url=None):
        tensor = client.InferInput("IN", [len(rows), 4], "FP32")
        tensor.set_data_from_numpy(np.array(rows, np.float32))
        with client.InferenceServerClient(url or self.server.url) as connection:
            return connection.infer(model, [tensor]).as_numpy("OUT")

    def case(self, name):
        """What the case of the model `tests` tells, and what has happened meanwhile."""
        before = len(self.log()) if (self.folder / "log").exists() else 0
        told = self.infer("tests", [[float(CASES.index(name)), *X[1:]]])
        return json.loads(told[0]), self.log()[before:]


@pytest.fixture(scope="module")
def gpus(repository, driver, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpus")
    running = Gpus(repository, driver, folder, "--allow-client-shm=true")
    with running.server:
        yield running
        assert running.server.stop() == 0


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """After each test all memory is freed, and what was opened is closed."""
    yield
    if "gpus" in request.fixturenames:
        gpus = request.getfixturevalue("gpus")
        assert gpus.left() == []
        balance = Counter()
        for pid, what, *rest in gpus.log():
            if os.path.exists("/proc/%d" % pid):
                balance[pid] += {"open": 1, "close": -1}.get(what, 0)
        assert not any(balance.values())


def test_within_a_worker_it_stays(gpus):
    told, log = gpus.case("within")
    refused = "Tensor is stored in GPU and cannot be converted to NumPy."
    assert told == [False, [2, 1], [1, 4], "TYPE_FP32", refused, True, 1, [row("within")]]
    assert [what for _, what, *_ in log] == ["alloc", "to_device", "to_host", "free"]


def test_datatypes(gpus):
    told, _ = gpus.case("datatypes")
    kinds = "BOOL UINT8 INT16 UINT32 INT64 FP16 FP64 BF16".split()
    assert told == ["TYPE_" + kind for kind in kinds] + [4]


def test_gaps_are_refused(gpus):
    assert "DLPack tensor is not contiguous" in gpus.case("gaps")[0]


def test_another_worker_opens_it_where_it_is(gpus):
    told, log = gpus.case("another_takes_it")
    assert told == [[2, 1], [added("another_takes_it", 1)]]
    # Only the models have copied, to write and to look.
    done = Counter(what for _, what, *_ in log)
    assert (done["to_device"], done["to_host"], done["open"]) == (2, 2, 2)
    assert gpus.server.process.pid not in {pid for pid, *_ in log}


def test_a_model_gets_what_the_cpu_can_see_unless_it_says_otherwise(gpus):
    told, log = gpus.case("another_wants_it_on_the_cpu")
    assert told == [[1, 0], [added("another_wants_it_on_the_cpu", 1)]]
    server = gpus.server.process.pid
    assert [what for pid, what, *_ in log if pid == server] == ["open", "to_host", "close"]


@pytest.mark.parametrize("client", ["http", "grpc"])
@pytest.mark.parametrize("device", [0, 1])
def test_clients_get_what_lies_on_a_gpu(gpus, client, device):
    rows = [[device, 1, 2, 3], [4, 5, 6, 7]]
    clients = {"http": (httpclient, gpus.server.url), "grpc": (grpcclient, gpus.server.grpc_url)}
    assert (gpus.infer("makes", rows, *clients[client]) == 2 * np.array(rows)).all()
    [name] = [rest for _, what, *rest in gpus.log()[-6:] if what == "alloc"]
    assert name[0].startswith("gpu%d-" % device)


def test_what_was_lent_comes_back_as_the_own_memory_that_it_is(gpus):
    told, log = gpus.case("it_comes_back")
    assert told == [0, [row("it_comes_back")]]
    assert Counter(what for _, what, *_ in log)["open"] == 1


def test_a_part_of_what_was_lent(gpus):
    told, _ = gpus.case("a_part_comes_back")
    assert told == [2 * 16, [added("a_part_comes_back", 2)]]


def test_what_was_lent_is_sent_on(gpus):
    told, log = gpus.case("it_is_sent_on")
    name = "it_is_sent_on"
    assert told == [[2, 0], [added(name, 2), added(name, 3)]]
    assert gpus.server.process.pid not in {pid for pid, *_ in log}


def test_preferred_memory(gpus):
    assert gpus.case("the_cpu_is_preferred")[0] == [[1, 0], [added("the_cpu_is_preferred", 1)]]
    assert gpus.case("a_gpu_is_preferred")[0] == [[2, 1], [added("a_gpu_is_preferred", 1)]]


def test_several_responses(gpus):
    told, _ = gpus.case("several")
    assert told == [[[2, 0], [added("several", number)]] for number in range(3)]


def test_from_step_to_step_of_an_ensemble(gpus):
    doubled = [2 * one + 1 for one in row("an_ensemble")]
    told, log = gpus.case("an_ensemble")
    assert told[1] == [doubled]
    assert gpus.server.process.pid not in {pid for pid, *_ in log}
    assert gpus.infer("both", [X]).tolist() == [[2 * one + 1 for one in X]]


def test_what_a_model_keeps_is_not_freed(gpus):
    assert gpus.case("it_is_kept")[0] == [[1, 0], [row("it_is_kept")]]


def test_a_worker_that_dies_holds_nothing(gpus):
    told, _ = gpus.case("another_dies")
    assert "exited with code 3" in told


def test_no_elements(gpus):
    assert gpus.case("none_at_all")[0] == [[1, 0], []]


def test_memory_that_cannot_be_shared_is_copied_and_a_warning_says_so(
    repository, driver, tmp_path
):
    gpus = Gpus(repository, driver, tmp_path, STAND_IN_GPU_UNSHARED="1")
    with gpus.server as server:
        assert gpus.infer("makes", [X]).tolist() == [[2 * one for one in X]]
        with pytest.raises(InferenceServerException, match="it lies in the CPU's memory"):
            gpus.infer("takes", [X])
        assert "cannot be shared (CUDA_ERROR_NOT_SUPPORTED)" in server.log()
        assert server.log().count("tensors of GPU 0 are copied into the CPU's memory") == 1
        assert gpus.left() == []
        assert server.stop() == 0


def test_where_instances_run(driver, tmp_path):
    models = tmp_path / "models"
    for name, (groups, _) in GROUPS.items():
        groups = groups and "instance_group [ %s ]" % groups
        write_model(models, name, TELLS + groups, {"model.py": PLACED})
    broken = TELLS + "instance_group { kind: KIND_GPU gpus: [ 0, 2 ] }"
    write_model(models, "broken", broken, {"model.py": PLACED})
    gpus = Gpus(models, driver, tmp_path, "--exit-on-error=false")
    with gpus.server as server:
        for name, (_, places) in GROUPS.items():
            said = [line.split("is at ")[1].strip(" \n\"") for line in server.lines if "is at" in line]
            assert sorted(one for one in said if " %s_" % name in one) == sorted(places)
        assert (
            "instance group broken_0 of model broken specifies invalid or unsupported gpu id 2. GPUs "
            "with at least the minimum required CUDA compute compatibility of 6.000000 are: 0 1"
        ) in server.log()
        assert server.stop() == 0


@pytest.fixture
def array(gpus, driver, monkeypatch):
    """Makes arrays of this process, which is a client of the server then."""
    monkeypatch.setenv("STAND_IN_GPU", str(gpus.folder))
    monkeypatch.syspath_prepend(str(GPU))
    ctypes.CDLL(str(driver / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
    from gpu_array import Array

    yield Array
    del sys.modules["gpu_array"]


@pytest.mark.parametrize("client", [httpclient, grpcclient])
@pytest.mark.parametrize("model", ["takes", "takes_cpu"])
def test_regions_of_clients(gpus, array, client, model):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    given, wanted = array(values, 1), array(np.zeros((3, 4), np.float32), 1)
    url = gpus.server.url if client is httpclient else gpus.server.grpc_url
    with client.InferenceServerClient(url) as connection:
        for name, one in (("given", given), ("wanted", wanted)):
            handle = base64.b64encode(one.handle())
            connection.register_cuda_shared_memory(name, handle, 1, 48)
        tensor, output = client.InferInput("IN", [2, 4], "FP32"), client.InferRequestedOutput("OUT")
        tensor.set_shared_memory("given", 32, 16)
        output.set_shared_memory("wanted", 32, 16)
        before = len(gpus.log())
        connection.infer(model, [tensor], outputs=[output])
        server = [what for pid, what, *_ in gpus.log()[before:] if pid == gpus.server.process.pid]
        connection.unregister_cuda_shared_memory()
    assert wanted.numpy().tolist() == [[0] * 4, *(values[1:] + 1).tolist()]
    # The model's output is copied there, its input only if it must be.
    copied = ["open", "to_host", "close"] if model == "takes" else ["to_host"]
    assert server == [*copied, "to_device"]
