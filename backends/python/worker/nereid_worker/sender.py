"""`pb_utils.InferenceResponseSender`."""

from typing import Optional

from nereid_worker import errors, frames
from nereid_worker.errors import TritonModelException
from nereid_worker.messages import InferenceResponse

_FINAL = 1


class InferenceResponseSender:
    """Sends the responses of one request, one by one, from any thread, even after `execute` has
    returned. The last one carries the flag TRITONSERVER_RESPONSE_COMPLETE_FINAL."""

    def __init__(self, worker, frame, index, decoupled):
        self._worker = worker
        self._frame = frame
        self._index = index
        self._decoupled = decoupled
        self._sent = 0
        # The model may send nothing more.
        self._closed = False

    def send(self, response: Optional[InferenceResponse] = None, flags: int = 0) -> None:
        """Sends a response; flag TRITONSERVER_RESPONSE_COMPLETE_FINAL (1) ends the request."""
        if flags not in (0, _FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is not None and not isinstance(response, InferenceResponse):
            raise TypeError("response must be an InferenceResponse, got %r" % (response,))
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if not self._decoupled:
            self._check_single(response)
        if self._closed:
            raise TritonModelException(
                "Unable to send response. Response sender has been closed."
            )
        if self._is_over():
            # What ends a request that its only response has ended.
            self._closed = True
            return
        if response is not None:
            self._worker.wait_for_room(self._frame, self._index)
            self._sent += 1
        self._closed = flags == _FINAL
        last = self._is_over()
        extras = {"request": self._index, "last": last}
        if last:
            self._worker.room.pop((self._frame, self._index), None)
        codec = self._worker.codec
        if response is None:
            block = codec.note({**extras, "nothing": True})
        else:
            block = codec.encode_response(response, extras)
        self._worker.channel.send(frames.frame(frames.RESPONSE, self._frame, 1, block))

    def _is_over(self):
        """Whether the last response has gone."""
        return self._closed or not self._decoupled and self._sent > 0

    def _check_single(self, response):
        if response is None and self._sent == 0:
            raise TritonModelException(
                "Unable to send response. Non-decoupled model cannot send complete final before "
                "sending a response."
            )
        if response is not None and self._sent > 0:
            raise TritonModelException(
                "Unable to send response. Non-decoupled model cannot send more than one response."
            )

    def _close(self) -> None:
        """Nothing more is sent by this one: `execute` has returned the response, or the request
        comes again, with another sender."""
        self._closed = True

    def is_cancelled(self) -> bool:
        """Whether the client does not want the answer any more."""
        return self._worker.is_cancelled(self._frame, self._index)

    def __del__(self):
        if self._is_over():
            return
        self._worker.room.pop((self._frame, self._index), None)
        # Nobody can end this request any more; its client would wait for ever.
        message = "the model has dropped its response sender without a final response"
        extras = {"request": self._index, "last": True}
        extras.update(errors.to_extras(errors.TritonError(message)))
        block = self._worker.codec.note(extras)
        self._worker.channel.later(frames.frame(frames.RESPONSE, self._frame, 1, block))
