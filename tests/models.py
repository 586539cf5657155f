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
