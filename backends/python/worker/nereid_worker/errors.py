"""`pb_utils.TritonError` and `pb_utils.TritonModelException`."""

from nereid_worker.texts import text


class TritonModelException(Exception):
    """What the module raises where a model asks for something that cannot be done."""


class Refusal(TritonModelException):
    """What the worker itself has to say of a model: its text stands for itself, without a name or
    a traceback."""


class TritonError:
    """An error for a response: a message and one of Triton's codes."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7

    _NAMES = (
        "UNKNOWN",
        "INTERNAL",
        "NOT_FOUND",
        "INVALID_ARG",
        "UNAVAILABLE",
        "UNSUPPORTED",
        "ALREADY_EXISTS",
        "CANCELLED",
    )

    def __init__(self, message: str, code: int = INTERNAL):
        if not isinstance(code, int) or not 0 <= code < len(self._NAMES):
            raise TypeError("code must be one of TritonError's codes, got %r" % (code,))
        self._message = text(message, "message")
        self._code = code

    def message(self) -> str:
        """The text that the client sees."""
        return self._message

    def code(self) -> int:
        """One of the class's constants."""
        return self._code

    def __str__(self) -> str:
        return self._message


def to_extras(error):
    """The error as a response carries it."""
    return {"error": {"code": TritonError._NAMES[error.code()], "message": error.message()}}


def from_extras(extras):
    """The error that an answer carries, or None."""
    error = extras.get("error")
    if error is None:
        return None
    name = error.get("code", "INTERNAL")
    code = TritonError._NAMES.index(name) if name in TritonError._NAMES else TritonError.UNKNOWN
    return TritonError(error.get("message", ""), code)
