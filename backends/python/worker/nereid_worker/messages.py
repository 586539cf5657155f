"""`pb_utils.InferenceRequest` and `pb_utils.InferenceResponse`."""

import json
import operator
from typing import (
    TYPE_CHECKING,
    Any,
    Awaitable,
    List,
    Literal,
    Optional,
    Sequence,
    Set,
    Union,
    overload,
)

from nereid_worker import current
from nereid_worker.errors import TritonError, TritonModelException
from nereid_worker.tensor import Tensor
from nereid_worker.texts import text

if TYPE_CHECKING:
    from nereid_worker.calls import ResponseIterator
    from nereid_worker.sender import InferenceResponseSender


class InferenceResponse:
    """What a model answers: tensors, or an error, and parameters if it likes."""

    __slots__ = ("_outputs", "_error", "_parameters")

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: Optional[TritonError] = None,
        parameters: Optional[dict] = None,
    ):
        for tensor in output_tensors:
            if not isinstance(tensor, Tensor):
                _refuse_output(tensor)
        if error is not None and not isinstance(error, TritonError):
            raise TypeError("error must be a TritonError, got %s" % type(error).__name__)
        self._outputs = output_tensors
        self._error = error
        self._parameters = parameters

    def output_tensors(self) -> List[Tensor]:
        """The output tensors."""
        return list(self._outputs)

    def has_error(self) -> bool:
        """Whether the response is an error."""
        return self._error is not None

    def error(self) -> Optional[TritonError]:
        """The error, or None."""
        return self._error

    def parameters(self) -> str:
        """The response's parameters as JSON text."""
        return json.dumps(self._parameters or {})


def _refuse_output(tensor):
    if tensor is None:
        raise TritonModelException("Output tensor for inference response should not be empty.")
    raise TypeError("output_tensors must hold Tensors, got %s" % type(tensor).__name__)


class InferenceTrace:
    """The trace of a request. Given to a request that this model makes, it ties that one to the
    request it was taken from: the two are cancelled together, even across threads."""

    __slots__ = ("_frame", "_context")

    def __init__(self, frame: int, context: Optional[str]):
        self._frame = frame
        self._context = context

    def get_context(self) -> Optional[str]:
        """The trace context as OpenTelemetry's propagators read it: JSON text, or None if the
        request is not traced."""
        return self._context


class InferenceRequest:
    """A request to this model, or one that this model makes of another (`exec`)."""

    __slots__ = (
        "_inputs",
        "_extras",
        "_parsed",
        "_frame",
        "_index",
        "_sender",
        "_release_flags",
        "_model_name",
        "_model_version",
        "_state",
        "_trace",
        "_preferred_memory",
        "_kind",
    )

    def __init__(
        self,
        request_id: str = "",
        correlation_id: Union[int, str] = 0,
        inputs: Sequence[Tensor] = (),
        requested_output_names: Sequence[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: Any = None,
        trace: Optional[InferenceTrace] = None,
        parameters: Optional[dict] = None,
    ):
        _check_inputs(inputs)
        names = _output_names(requested_output_names)
        if not isinstance(model_name, str):
            model_name = text(model_name, "model_name")
        if request_id == "" and correlation_id == flags == timeout == 0 and parameters is None:
            # Tells it from requests that carry something else besides their tensors.
            self._kind = (model_name, model_version, *names)
            self._parsed = {"outputs": names}
        else:
            _check_parameters(parameters)
            self._kind = None
            self._parsed = {
                "id": text(request_id, "request_id"),
                "correlation_id": _correlation_id(correlation_id),
                "outputs": names,
                "flags": _unsigned("flags", flags),
                "timeout": _unsigned("timeout", timeout),
                "parameters": parameters or {},
            }
        self._inputs = list(inputs)
        self._model_name = model_name
        self._model_version = model_version
        self._extras = b""
        self._frame = 0
        self._index = 0
        self._sender = None
        self._release_flags = 1
        self._state = None
        self._trace = trace
        self._preferred_memory = preferred_memory

    def _info(self, key, default):
        parsed = self._parsed
        if parsed is None:
            parsed = self._parsed = json.loads(self._extras) if self._extras else {}
        return parsed.get(key, default)

    def inputs(self) -> List[Tensor]:
        """The input tensors."""
        return self._inputs

    def request_id(self) -> str:
        """The client's name for the request; empty if it gave none."""
        return self._info("id", "")

    def correlation_id(self) -> Union[int, str]:
        """The sequence that the request belongs to; 0 if to none."""
        return self._info("correlation_id", 0)

    def flags(self) -> int:
        """TRITONSERVER_REQUEST_FLAG_SEQUENCE_START and _END."""
        return self._info("flags", 0)

    def set_flags(self, flags: int) -> None:
        """Sets the flags of a request that this model will send."""
        self._info("flags", 0)
        self._parsed["flags"] = flags
        self._kind = None

    def timeout(self) -> int:
        """Microseconds that the request may wait in queues; 0 if there is no limit."""
        return self._info("timeout", 0)

    def priority(self) -> int:
        """The request's priority; 0 if it has the default."""
        return self._info("priority", 0)

    def parameters(self) -> str:
        """The request's parameters as JSON text."""
        return json.dumps(self._info("parameters", {}))

    def requested_output_names(self) -> Set[str]:
        """Names of the outputs that the client wants."""
        names = self._info("outputs", None)
        if names:
            return set(names)
        return set(self._state.output_names) if self._state is not None else set()

    def model_name(self) -> str:
        """The model that a request of this model's goes to."""
        return self._model_name

    def model_version(self) -> int:
        """Its version; -1 for the latest."""
        return self._model_version

    def preferred_memory(self) -> Any:
        """What was given when the request was made."""
        return self._preferred_memory

    def is_cancelled(self) -> bool:
        """Whether the client does not want the answer any more."""
        return self._frame != 0 and _worker().is_cancelled(self._frame, self._index)

    def trace(self) -> InferenceTrace:
        """The request's trace: for requests that this model makes on its behalf."""
        return InferenceTrace(self._frame, self._info("trace", None))

    def set_release_flags(self, flags: int) -> None:
        """What happens to the request after `execute` (TRITONSERVER_REQUEST_RELEASE_*)."""
        if flags not in (1, 2):
            raise TritonModelException("unknown release flags: %r" % (flags,))
        self._release_flags = flags

    def get_response_sender(self) -> "InferenceResponseSender":
        """Sends responses to this request: any number from a decoupled model, else exactly one."""
        if self._sender is None:
            self._sender = _worker().sender(self)
        return self._sender

    @overload
    def exec(self, decoupled: Literal[False] = False) -> InferenceResponse: ...

    @overload
    def exec(self, decoupled: Literal[True]) -> "ResponseIterator": ...

    def exec(self, decoupled: bool = False) -> Union[InferenceResponse, "ResponseIterator"]:
        """Runs the request on the model that it names and waits for the response.

        With `decoupled=True` it returns at once an iterator over any number of responses.
        """
        return _worker().calls.exec(self, decoupled)

    @overload
    def async_exec(self, decoupled: Literal[False] = False) -> Awaitable[InferenceResponse]: ...

    @overload
    def async_exec(self, decoupled: Literal[True]) -> "Awaitable[ResponseIterator]": ...

    def async_exec(
        self, decoupled: bool = False
    ) -> "Awaitable[Union[InferenceResponse, ResponseIterator]]":
        """Like `exec`, for `async def execute`: sends the request at once; other work goes on until
        the answer is awaited."""
        return _worker().calls.exec_async(self, decoupled)


def _check_inputs(inputs):
    for tensor in inputs:
        if not isinstance(tensor, Tensor):
            raise TypeError("inputs must hold Tensors, got %s" % type(tensor).__name__)


def _output_names(names):
    if isinstance(names, (str, bytes)):
        raise TypeError("requested_output_names must be a list of str, got %r" % (names,))
    names = list(names)
    if all([isinstance(name, str) for name in names]):
        return names
    return [text(name, "the name of an output") for name in names]


def _check_parameters(parameters):
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise TritonModelException("Expect parameters to be a dict, got %s" % type(parameters))
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(
                "Expect parameters keys to have type str, found type %s" % type(key)
            )
        if not isinstance(value, (bool, int, str)):
            raise TritonModelException(
                "Expect parameters values to have type bool/int/str, found type %s" % type(value)
            )


def _correlation_id(value):
    if isinstance(value, (str, bytes)):
        return text(value, "correlation_id")
    return _unsigned("correlation_id", value)


def _unsigned(name, value):
    number = operator.index(value)
    if number < 0:
        raise TypeError("%s must not be negative, got %d" % (name, number))
    return number


def _worker():
    worker = current.worker
    if worker is None:
        raise TritonModelException("requests to other models need the server: none is here")
    return worker


def received(inputs, extras, frame_id, index, state):
    """A request that came in a frame."""
    request = InferenceRequest.__new__(InferenceRequest)
    request._inputs = inputs
    request._extras = extras
    request._parsed = None
    request._frame = frame_id
    request._index = index
    request._sender = None
    request._release_flags = 1
    request._model_name = state.model_name
    request._model_version = -1
    request._state = state
    request._trace = None
    request._preferred_memory = None
    request._kind = None
    return request
