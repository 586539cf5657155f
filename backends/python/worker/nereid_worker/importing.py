"""Imports a model's file, and says what went wrong in it."""

import importlib.util
import os
import sys
import traceback

from nereid_worker.errors import Refusal

# The folder of the version that this process serves, once its model is imported.
version_dir = None


def import_model(start):
    """Imports the model file as Triton does: its neighbours can be imported too."""
    global version_dir
    version_dir = start["version_dir"]
    for folder in (start.get("backend_dir"), start["model_dir"], start["version_dir"]):
        if folder and folder not in sys.path:
            sys.path.insert(0, folder)
    path = start["model_file"]
    name = "model_%s" % abs(hash(path))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise Refusal("%s is not a Python file" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def describe_error(error):
    """The error for the client: its kind, its text, and where it happened."""
    if isinstance(error, Refusal):
        return str(error)
    if isinstance(error, SyntaxError):
        return "".join(traceback.format_exception_only(type(error), error)).rstrip()
    lines = ["%s: %s" % (type(error).__name__, str(error) or "<EMPTY MESSAGE>"), "", "At:"]
    if isinstance(error, ModuleNotFoundError):
        lines[0] += " (looked for in the environment of %s)" % sys.executable
    steps = traceback.extract_tb(error.__traceback__)
    own = os.path.dirname(__file__)
    for step in reversed([s for s in steps if not s.filename.startswith(own)]):
        lines.append("  %s(%s): %s" % (step.filename, step.lineno, step.name))
    return "\n".join(lines) + "\n" if len(lines) > 3 else lines[0]
