"""What users see of `triton_python_backend_utils` in their editor: hints and docstrings everywhere."""

import importlib
import inspect
import sys

import pytest
from fake_server import WORKER_DIR

sys.path.insert(0, WORKER_DIR)
pb_utils = importlib.import_module("triton_python_backend_utils")
ResponseIterator = importlib.import_module("nereid_worker.calls").ResponseIterator
OURS = "triton_python_backend_utils", "c_python_backend_utils", "nereid_worker"

PUBLIC = {
    name: value
    for name, value in {**vars(pb_utils), "ResponseIterator": ResponseIterator}.items()
    if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
    if value.__module__.startswith(OURS)
}
FUNCTIONS = {
    "%s.%s" % (owner, name) if owner else name: function
    for owner, members in [
        ("", PUBLIC), *((name, vars(one)) for name, one in PUBLIC.items() if inspect.isclass(one))
    ]
    for name, function in members.items()
    for function in [getattr(function, "__func__", function)]
    if inspect.isfunction(function) and not name.startswith("_")
}


def test_there_is_something_to_look_at():
    assert {"Tensor", "InferenceRequest", "get_model_dir", "Metric"} <= set(PUBLIC)
    assert {"Tensor.from_dlpack", "ResponseIterator.cancel", "load_model"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", [*PUBLIC, *FUNCTIONS])
def test_it_has_a_docstring(name):
    assert (PUBLIC.get(name) or FUNCTIONS[name]).__doc__


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_has_hints(name):
    signature = inspect.signature(FUNCTIONS[name])
    missing = inspect.Parameter.empty
    lacking = [p.name for p in signature.parameters.values() if p.annotation is missing]
    assert [one for one in lacking if one not in ("self", "cls")] == []
    assert signature.return_annotation is not missing
