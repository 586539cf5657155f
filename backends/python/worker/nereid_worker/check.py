"""`python -m nereid_worker.check`: judges a model.py without running it.

Reads where it is from stdin as JSON, writes what there is to say of it to stdout: findings, and
the names of the tensors that it asks for and makes.
"""

import ast
import importlib.util
import json
import sys


def check(start):
    """The findings and the tensors of one file."""
    path = start["model_file"]
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        return {"findings": [finding("cannot be read: %s" % error.strerror)]}
    try:
        tree = ast.parse(source, path)
    except SyntaxError as error:
        found = finding("%s: %s" % (type(error).__name__, error.msg), "correct the line")
        found.update(line=error.lineno or 1, column=error.offset or 1, text=error.text or "")
        return {"findings": [found]}
    except ValueError as error:  # A zero byte.
        return {"findings": [finding(str(error), "save the file as text")]}
    # Where a model finds what lies beside it.
    sys.path[:0] = [start["model_dir"], start["version_dir"]]
    lines = source.decode("utf-8", "replace").splitlines()
    findings = list(missing_modules(tree, lines)) + list(missing_class(tree, lines))
    return {
        "findings": findings,
        "inputs": list(names(tree, "get_input_tensor_by_name", 1)),
        "outputs": list(names(tree, "Tensor", 0)),
    }


def finding(message, cure="", node=None, lines=(), severity="error"):
    """One thing to say; `node` is where."""
    found = {"severity": severity, "message": message, "cure": cure}
    if node is not None:
        text = lines[node.lineno - 1] if node.lineno <= len(lines) else ""
        found.update(line=node.lineno, column=node.col_offset + 1, text=text)
    return found


def missing_modules(tree, lines):
    """Modules that are imported when the file is, and that this interpreter does not have."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module]
        else:
            continue
        for module in modules:
            package = module.split(".")[0]
            if importlib.util.find_spec(package) is None:
                yield finding(
                    "no module named '%s' for Python %d.%d" % ((package,) + sys.version_info[:2]),
                    "install it with `%s -m pip install`, or choose another interpreter with "
                    "--backend-config=python,python=PATH" % sys.executable,
                    node,
                    lines,
                )


def missing_class(tree, lines):
    """The class that the server looks for, and its method."""
    name = "TritonPythonModel"
    defined = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    if not defined:
        if not any(binds(node, name) for node in tree.body):
            classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
            yield finding(
                "class '%s' does not exist" % name,
                "call the model's class so",
                classes[0] if classes else None,
                lines,
            )
        return
    methods = [n.name for n in defined[-1].body if hasattr(n, "name")]
    if "execute" not in methods and not defined[-1].bases:
        yield finding(
            "class '%s' has no method 'execute'" % name,
            "add `def execute(self, requests)`, which returns a response for each request",
            defined[-1],
            lines,
        )


def binds(node, name):
    """Whether a statement may give something this name, or more than can be seen."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return any((alias.asname or alias.name) in (name, "*") for alias in node.names)
    if isinstance(node, ast.Assign):
        return any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    return not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.Expr))


def names(tree, function, position):
    """The strings that calls of `function` give at `position`, each with its place."""
    seen = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.args) <= position:
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", None))
        try:
            name = ast.literal_eval(node.args[position])
        except ValueError:
            continue
        if called == function and isinstance(name, str) and name not in seen:
            seen.add(name)
            yield name


if __name__ == "__main__":
    json.dump(check(json.load(sys.stdin)), sys.stdout)
