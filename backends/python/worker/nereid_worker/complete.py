"""`python -m nereid_worker.complete`: lets a model complete its own configuration.

Reads what to import and the configuration from stdin as JSON, writes `{"config": …}` or
`{"error": …}` to the stdout it was started with. What the model prints goes to stderr.
"""

import json
import os
import sys
import traceback

from nereid_worker.errors import Refusal
from nereid_worker.importing import describe_error, import_model


def complete(start):
    """The configuration as `auto_complete_config` returns it; None if the model has no such."""
    from triton_python_backend_utils import ModelConfig

    model = getattr(import_model(start), "TritonPythonModel", None)
    if not hasattr(model, "auto_complete_config"):
        return None
    completed = model.auto_complete_config(ModelConfig(start["config"]))
    if not isinstance(completed, ModelConfig):
        raise Refusal(
            "auto_complete_config function in model '%s' must return a valid pb.ModelConfig object."
            % start["config"].get("name", "")
        )
    return completed.as_dict()


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.argv = [""]  # As where the model is run.
    try:
        result = {"config": complete(json.load(sys.stdin))}
    except BaseException as error:  # a model may even exit
        traceback.print_exc()
        result = {"error": describe_error(error)}
    json.dump(result, answer)
    answer.close()
