"""Which interpreter and which packages a Python model gets; backends that are written in Python."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from harness import Server, write_model
from models import config
from test_python_backend import infer

# Where this environment has numpy.
NUMPY = str(Path(np.__file__).parents[1])

# Answers with 7 where the package that only the environment has can be imported.
MODEL = """
import sys
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        import only_here
        out = pb_utils.Tensor("OUT", np.full((1, 4), only_here.VALUE, np.float32))
        return [pb_utils.InferenceResponse([out]) for _ in requests]
"""


def model(repository, name, parameters="", **files):
    write_model(repository, name, config("python", more=parameters), {"model.py": MODEL})
    for file, text in files.items():
        (repository / name / file).write_text(text)


def parameter(key, value):
    return 'parameters { key: "%s" value: { string_value: "%s" } }' % (key, value)


def environment(folder):
    """A virtual environment that finds the numpy of this one, and a package of its own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(NUMPY + "\n")
    (packages / "only_here.py").write_text("VALUE = 7\n")


def wheel(folder, name, **files):
    """A wheel that only copies files."""
    info = "%s-1.0.dist-info/" % name
    with zipfile.ZipFile(folder / ("%s-1.0-py3-none-any.whl" % name), "w") as archive:
        for file, text in files.items():
            archive.writestr(file.replace("__", "."), text)
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: %s\nVersion: 1.0\n" % name)
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(info + "RECORD", "")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nereid"


def serves(server, name):
    return np.array_equal(infer(server, name), np.full((1, 4), 7))


def test_packed_environments_folders_and_interpreters(tmp_path, cache):
    repository = tmp_path / "models"
    inside = "$$TRITON_MODEL_DIRECTORY/env"
    model(repository, "folder", parameter("EXECUTION_ENV_PATH", inside))
    environment(repository / "folder" / "env")
    packed = tmp_path / "env.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(repository / "folder" / "env", ".")
    for name in ("packed", "packed_too"):
        model(repository, name, parameter("EXECUTION_ENV_PATH", packed))
    model(repository, "chosen", parameter("python", repository / "folder/env/bin/python"))
    with Server(repository) as server:
        assert all(serves(server, name) for name in ("folder", "packed", "packed_too", "chosen"))
        assert server.log().count("unpacking the environment") == 1
    with Server(repository) as server:
        assert serves(server, "packed")
        assert "unpacking the environment" not in server.log()


def test_environments_that_cannot_be_used(tmp_path, cache):
    (tmp_path / "no.tar.gz").write_bytes(b"this is no archive")
    (tmp_path / "empty").mkdir()
    for name, path in (("missing", "nowhere"), ("broken", "no.tar.gz"), ("empty", "empty")):
        model(tmp_path / "models", name, parameter("EXECUTION_ENV_PATH", tmp_path / path))
    with Server(tmp_path / "models", "--exit-on-error=false") as server:
        table = server.log()[server.log().index("| Model") :]
        assert "EXECUTION_ENV_PATH %s: No such file" % (tmp_path / "nowhere") in table
        assert "failed to unpack %s" % (tmp_path / "no.tar.gz") in table
        assert "has no bin/python" in table
    assert not list(cache.glob("python-env-*/"))


def test_requirements_are_installed_once(tmp_path, cache, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    # Instead of numpy a pointer to the one of this environment: the test needs no network.
    wheel(wheels, "numpy", borrowed__pth=NUMPY + "\n")
    wheel(wheels, "only_here", only_here__py="VALUE = 7\n")
    for variable in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(variable, "1")
    for variable in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(variable, str(wheels))
    repository = tmp_path / "models"
    for name in ("one", "two"):
        model(repository, name, **{"requirements.txt": "only_here==1.0\n"})
    with Server(repository) as server:
        assert serves(server, "one") and serves(server, "two")
        assert server.log().count("building an environment") == 1
        assert "only" in server.log().split("building an environment")[1], "progress is shown"
    (wheels / "only_here-1.0-py3-none-any.whl").unlink()
    model(repository, "wants_more", **{"requirements.txt": "no_such_package_anywhere\n"})
    with Server(repository, "--exit-on-error=false") as server:
        assert serves(server, "one")
        log = server.log()
        assert log.count("building an environment") == 1
        table = log[log.index("| Model") :]
        assert "no_such_package_anywhere" in table.replace("-", "_") and "requirements=ignore" in table
    assert len(list(cache.glob("python-venv-*/"))) == 1


def test_a_backend_written_in_python(tmp_path):
    backend = tmp_path / "backends" / "seven"
    backend.mkdir(parents=True)
    (backend / "only_here.py").write_text("VALUE = 7\n")
    (backend / "model.py").write_text(MODEL)
    write_model(tmp_path / "models", "m", config("seven"))
    more = 'default_model_filename: "other.py"'
    write_model(tmp_path / "models", "own", config("seven", more=more), {"other.py": MODEL.replace("VALUE", "VALUE + 0")})
    with Server(tmp_path / "models", "--backend-directory=%s" % (tmp_path / "backends")) as server:
        assert serves(server, "m") and serves(server, "own")
