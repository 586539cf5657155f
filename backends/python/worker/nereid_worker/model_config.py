"""`pb_utils.ModelConfig`: what `auto_complete_config` is given and gives back."""

import json
from typing import Any, Dict, Sequence, Union

_INPUT = ("name", "data_type", "dims", "optional")
_OUTPUT = ("name", "data_type", "dims")
_REQUIRED = ("name", "data_type", "dims")


class ModelConfig:
    """The configuration of a model, which `auto_complete_config` may add to.

    What the configuration says already must agree with what is added to it; a `ValueError` says
    where it does not.
    """

    def __init__(self, model_config: Union[str, Dict[str, Any]]):
        """`model_config`: JSON text, or (in unit tests) a dictionary."""
        config = json.loads(model_config) if isinstance(model_config, str) else model_config
        self._model_config = config

    def as_dict(self) -> Dict[str, Any]:
        """The configuration as a dictionary."""
        return self._model_config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Sets the largest batch; it must not be smaller than what the configuration says."""
        present = self._model_config.get("max_batch_size", 0)
        if present > max_batch_size:
            raise ValueError(
                "configuration specified max_batch_size %d, but in auto-complete-config function "
                "for model '%s' specified max_batch_size %d"
                % (present, self._name(), max_batch_size)
            )
        self._model_config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Turns the dynamic batcher on, unless the configuration asks for another scheduler."""
        for scheduler in ("sequence_batching", "ensemble_scheduling"):
            if scheduler in self._model_config:
                raise ValueError(
                    "Configuration specified scheduling_choice as '%s', but auto-complete-config "
                    "function for model '%s' tries to set scheduling_choice as 'dynamic_batching'"
                    % (scheduler, self._name())
                )
        self._model_config.setdefault("dynamic_batching", {})

    def add_input(self, input: Dict[str, Any]) -> None:
        """Adds an input: `{"name": …, "data_type": "TYPE_…", "dims": […]}`, and `"optional"` if it
        is."""
        self._check("input", input, _INPUT, "'name', 'data_type', 'dims' and 'optional'")
        self._add("input", input)

    def add_output(self, output: Dict[str, Any]) -> None:
        """Adds an output: `{"name": …, "data_type": "TYPE_…", "dims": […]}`."""
        self._check("output", output, _OUTPUT, "'name', 'data_type' and 'dims'")
        self._add("output", output)

    def set_model_transaction_policy(self, transaction_policy_dict: Dict[str, Any]) -> None:
        """Sets `{"decoupled": bool}`; it must be what the configuration says, if it says so."""
        if any(key != "decoupled" for key in transaction_policy_dict):
            raise ValueError(
                "model transaction property in auto-complete-config function for model '%s' "
                "contains property other than 'decoupled'." % self._name()
            )
        policy = self._model_config.setdefault("model_transaction_policy", {})
        for key, value in transaction_policy_dict.items():
            if policy.setdefault(key, value) != value:
                raise ValueError(
                    "trying to change decoupled property in auto-complete-config for model '%s', "
                    "which is already set to '%s'." % (self._name(), policy[key])
                )

    def _name(self) -> str:
        return self._model_config.get("name", "")

    def _check(self, kind: str, tensor: Dict[str, Any], allowed: Sequence[str], said: str) -> None:
        """Whether an input or output has what it needs, and nothing else."""
        place = " in auto-complete-config function for model '%s'" % self._name()
        named = "%s '%s'" % (kind, tensor["name"]) if "name" in tensor else kind
        if any(key not in allowed for key in tensor):
            raise ValueError("%s%s contains property other than %s." % (named, place, said))
        for key in _REQUIRED:
            if key not in tensor:
                raise ValueError("%s%s is missing '%s' property." % (named, place, key))

    def _add(self, kind: str, tensor: Dict[str, Any]) -> None:
        present = self._model_config.setdefault(kind, [])
        for entry in present:
            if entry["name"] == tensor["name"]:
                self._agree(kind, entry, tensor)
                entry.update(tensor)
                return
        present.append(dict(tensor))

    def _agree(self, kind: str, entry: Dict[str, Any], tensor: Dict[str, Any]) -> None:
        """Whether what is added agrees with what the configuration says."""
        data_type = entry.get("data_type", "TYPE_INVALID")
        if data_type not in ("TYPE_INVALID", tensor["data_type"]):
            raise ValueError(
                "unable to load model '%s', configuration expects datatype %s for %s '%s', model "
                "provides %s" % (self._name(), data_type, kind, tensor["name"], tensor["data_type"])
            )
        dims = entry.get("dims")
        self._same("dims", list(dims or tensor["dims"]), tensor["name"], list(tensor["dims"]))
        optional = tensor.get("optional")
        if optional is not None and "optional" in entry:
            self._same("optional", entry["optional"], tensor["name"], optional)

    def _same(self, what: str, present: Any, tensor: str, given: Any) -> None:
        if present != given:
            raise ValueError(
                "model '%s', tensor '%s': the model expects %s %s but the model configuration "
                "specifies %s %s" % (self._name(), tensor, what, given, what, present)
            )
