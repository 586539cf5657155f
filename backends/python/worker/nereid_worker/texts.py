"""Text as models give it."""

from typing import Any


def text(value: Any, what: str) -> str:
    """A name or a message. Bytes will do, as in Triton: such are the elements of STRING tensors, and
    a model may well be told by one which model to call."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise TypeError("%s must be a str, got %s" % (what, type(value).__name__))
    return value
