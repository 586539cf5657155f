"""Imports a model's file, and says what went wrong in it."""

import importlib.machinery
import importlib.util
import os
import sys
import traceback

from nereid_worker.errors import Refusal

# The folder of the version that this process serves, once its model is imported.
version_dir = None


def import_model(start):
    """Imports the model file under the name that it has in Triton: a module of the package that the
    version's folder is (`1.model`). So it may say `from . import …`, and what other processes are
    handed of it (pickle, multiprocessing) is found there, too."""
    global version_dir
    version_dir = start["version_dir"]
    # Behind everything else, as in Triton: a `types.py` beside the model is not Python's own.
    for folder in (start.get("backend_dir"), version_dir, start["model_dir"]):
        if folder and folder not in sys.path:
            sys.path.append(folder)
    folder, file = os.path.split(start["model_file"])
    name = os.path.splitext(file)[0]
    if folder == version_dir:
        package = os.path.basename(version_dir)
        _import_package(package, version_dir)
        name = "%s.%s" % (package, name)
    spec = importlib.util.spec_from_file_location(name, start["model_file"])
    if spec is None:
        raise Refusal("%s is not a Python file" % start["model_file"])
    return _execute(spec)


def _import_package(name, folder):
    """Makes a folder a package. It need not have an `__init__.py`."""
    init = os.path.join(folder, "__init__.py")
    if os.path.isfile(init):
        spec = importlib.util.spec_from_file_location(
            name, init, submodule_search_locations=[folder]
        )
    else:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations.append(folder)
    _execute(spec)


def _execute(spec):
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if spec.loader is not None:
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
