"""Model repositories that several tests use."""

from harness import write_model

IDENTITY_MODEL = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(r, "IN").as_numpy())]
                )
                for r in requests
            ]
"""


def config(backend, datatype="FP32", dims="[ -1 ]", max_batch_size=8, more=""):
    """config.pbtxt of a model with one input IN and one output OUT of the same kind."""
    return """
        backend: "%s"
        max_batch_size: %d
        input [ { name: "IN" data_type: TYPE_%s dims: %s } ]
        output [ { name: "OUT" data_type: TYPE_%s dims: %s } ]
        %s
    """ % (backend, max_batch_size, datatype, dims, datatype, dims, more)


def python_model(repository, name, body, **options):
    """A Python model with the given model.py."""
    write_model(repository, name, config("python", **options), {"model.py": body})

def ensemble(steps, inputs=("IN",), outputs=("OUT",), dims="2", batch=8):
    """config.pbtxt of an ensemble of FP32 tensors. `steps`: model, version, {model's input: tensor},
    {model's output: tensor}."""

    def tensors(kind, names):
        tensor = '{ name: "%s" data_type: TYPE_FP32 dims: [ %s ] }'
        return "%s [ %s ]" % (kind, ", ".join(tensor % (name, dims) for name in names))

    def mapped(kind, names):
        return " ".join('%s { key: "%s" value: "%s" }' % (kind, *pair) for pair in names.items())

    step = '{ model_name: "%s" model_version: %d %s %s }'
    written = [
        step % (model, version, mapped("input_map", reads), mapped("output_map", writes))
        for model, version, reads, writes in steps
    ]
    return 'platform: "ensemble" max_batch_size: %d %s %s ensemble_scheduling { step [ %s ] }' % (
        batch,
        tensors("input", inputs),
        tensors("output", outputs),
        ", ".join(written),
    )


def chain(*models, **options):
    """An ensemble in which each model's OUT is the next one's IN."""
    names = ["IN"] + ["t%d" % n for n in range(len(models) - 1)] + ["OUT"]
    pairs = zip(models, names, names[1:])
    return ensemble([(model, -1, {"IN": a}, {"OUT": b}) for model, a, b in pairs], **options)


# Adds a number to its input: made with `ADD % number`.
ADD = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            get = pb_utils.get_input_tensor_by_name
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", get(r, "IN").as_numpy() + %d)])
                for r in requests
            ]
"""

# Says that it has begun by making a file, and answers once another one is there.
HELD = """
    import pathlib, time
    import triton_python_backend_utils as pb_utils

    HERE = pathlib.Path(__file__).parent

    class TritonPythonModel:
        def execute(self, requests):
            (HERE / "begun").touch()
            while not (HERE / "go").exists():
                time.sleep(0.01)
            get = pb_utils.get_input_tensor_by_name
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", get(r, "IN").as_numpy())]) for r in requests]
"""
