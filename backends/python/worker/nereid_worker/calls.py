"""Requests that this model makes of other models (business logic scripting)."""

import asyncio
import contextvars
import json
import struct
import threading
import weakref
from collections import deque

from nereid_worker import device, errors, frames, tensor
from nereid_worker.errors import TritonModelException
from nereid_worker.messages import InferenceResponse

# The batch on whose behalf a thread or an asyncio task works; 0 if nobody knows.
batch = contextvars.ContextVar("batch", default=0)

_EXTRAS_KEPT = 256

# The head of a frame with a call, and the batch that it is made for.
_CALL_HEAD = struct.Struct(frames.HEAD.format + "Q")


class Calls:
    """Sends requests of this model's and brings the answers to whoever waits for them."""

    def __init__(self, channel, codec):
        self.allowed = False
        # Batches that calls of this instance have led back to it: run by whoever waits here, since
        # the thread that should run them may be the one that waits.
        self.nested = deque()
        self.run_nested = None
        self._channel = channel
        self._codec = codec
        self._count = 0
        # How many futures have been given their answer.
        self.resolved = 0
        # The worker's own event loop, which always reads; and how many futures each other one waits
        # for.
        self.loop = None
        self._waiting_loops = {}
        # Answers that a thread waits for, and what to do with all others, by the call's number.
        self._answers = {}
        self._receivers = {}
        # What most requests carry besides their tensors, as JSON.
        self._extras = {}
        channel.handlers[frames.CALL_ANSWER] = self._answered
        channel.handlers[frames.EXECUTE_NESTED] = self._nested_came

    def exec(self, request, decoupled):
        """Runs a request on another model and waits; answers to others are kept meanwhile."""
        if decoupled:
            return self._stream(request)
        call = self._send(request, self._plain_extras(request))
        return _granted(self._response(call, self._answer(call)), request._preferred_memory)

    def exec_async(self, request, decoupled):
        """As `exec`, but gives back at once what the event loop can wait for."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if decoupled:
            future.set_result(self._stream(request))
            return future

        preferred = request._preferred_memory

        def receive(call, body):
            del self._receivers[call]
            _call_in(loop, self._resolve, call, future, body, preferred)

        call = self._send(request, self._plain_extras(request, may_cancel=True), receive)
        future.add_done_callback(lambda done: done.cancelled() and self.cancel(call))
        if loop is not self.loop:
            self.read_until(loop, future)
        return future

    def read_until(self, loop, future):
        """Lets an event loop that a model has made read what the server sends until its future is
        done. Nobody else may: `execute` perhaps waits for this loop."""
        waiting = self._waiting_loops.get(loop, 0)
        self._waiting_loops[loop] = waiting + 1
        if waiting == 0:
            loop.add_reader(self._channel.requests, self._readable)
        future.add_done_callback(self._waited)

    def _readable(self):
        self._channel.read_what_is_there()
        if self._channel.turns.notify is not None:
            self._channel.turns.notify()
        elif self.nested:
            self._run_nested()

    def _waited(self, future):
        loop = future.get_loop()
        waiting = self._waiting_loops.pop(loop) - 1
        if waiting:
            self._waiting_loops[loop] = waiting
        else:
            loop.remove_reader(self._channel.requests)

    def _stream(self, request):
        responses = ResponseIterator(self)
        listener = weakref.ref(responses)
        preferred = request._preferred_memory

        def receive(call, body):
            response, last = self._part(body)
            if last:
                del self._receivers[call]
            listening = listener()
            if listening is not None:
                listening._feed(_granted(response, preferred), last)
            # Else dropping it releases its memory.

        extras = self._extras_of(request, {"decoupled": True})
        responses._call = self._send(request, extras, receive)
        return responses

    def _extras_of(self, request, extras):
        """What a request carries besides its tensors, and what is in `extras`."""
        request.request_id()  # A received request may not have been parsed yet.
        for key, value in request._parsed.items():
            if value:
                extras[key] = value
        extras["model_name"] = request._model_name
        extras["model_version"] = request._model_version
        if self._codec.devices.keep_out(request._preferred_memory):
            extras["on_host"] = True
        return json.dumps(extras).encode()

    def _plain_extras(self, request, may_cancel=False):
        """As `_extras_of`, put together only once for requests that look alike."""
        more = {"may_cancel": True} if may_cancel else {}
        if request._kind is None:
            return self._extras_of(request, more)
        on_host = self._codec.devices.keep_out(request._preferred_memory)
        kind = (may_cancel, on_host, *request._kind)
        extras = self._extras.get(kind)
        if extras is None:
            if len(self._extras) >= _EXTRAS_KEPT:
                self._extras.clear()
            extras = self._extras[kind] = self._extras_of(request, more)
        return extras

    def _send(self, request, extras, receive=None):
        """Sends a request of this model's; returns the number of the call. Its answers go to
        `receive`, in whatever thread has read them; without it, somebody waits for them."""
        if not self.allowed:
            raise TritonModelException("BLS is only supported during the 'execute' function.")
        trace = request._trace
        on_behalf = batch.get() if trace is None else trace._frame
        block = self._codec.encode(request._inputs, extras)
        channel = self._channel
        with channel.lock:
            self._count += 1
            call = self._count
            if receive is not None:
                # Before another thread can read the answer.
                self._receivers[call] = receive
            head = _CALL_HEAD.pack(_CALL_HEAD.size + len(block), frames.CALL, 1, call, on_behalf)
            channel.out.append(head + block)
            channel.flush_or_hold()
        return call

    def cancel(self, call):
        """The answer to a call is not wanted any more."""
        self._channel.send(frames.frame(frames.CANCEL_CALL, call))

    def forget(self, call):
        """As `cancel`, from a finalizer."""
        self._channel.later(frames.frame(frames.CANCEL_CALL, call))

    def ask(self, extras, tensors=()):
        """Asks something of the server itself and returns the parameters of its answer."""
        block = self._codec.encode(tensors, json.dumps(extras).encode())
        with self._channel.lock:
            self._count += 1
            call = self._count
            self._channel.out.append(frames.frame(frames.CONTROL, call, 1, block))
        self._channel.flush()
        _, extras, _ = self._codec.decode(self._answer(call), 0)
        extras = json.loads(extras) if extras else {}
        error = errors.from_extras(extras)
        if error is not None:
            raise TritonModelException(error.message())
        return extras.get("parameters", {})

    def _answer(self, call):
        """Waits for the answer to a call."""
        answers, nested = self._answers, self.nested
        self._wait(lambda: call in answers or nested, lambda: call in answers)
        return answers.pop(call)

    def wait(self, ready):
        """Reads until `ready()`, and meanwhile runs what this instance's own calls came back as."""
        nested = self.nested
        self._wait(lambda: ready() or nested, ready)

    def _wait(self, ready_or_nested, ready):
        channel = self._channel
        if channel.held_by:
            channel.flush()
        while True:
            channel.turns.wait(ready_or_nested)
            if not self.nested or ready():
                return
            self._run_nested()

    def _run_nested(self):
        try:
            frame = self.nested.popleft()
        except IndexError:
            return  # Another thread was faster.
        outer = batch.get()
        self.run_nested(*frame)
        batch.set(outer)
        self._channel.flush()

    def _nested_came(self, count, frame_id, body):
        self.nested.append((count, frame_id, body))

    def _answered(self, _, call, body):
        receive = self._receivers.get(call)
        if receive is None:
            self._answers[call] = body
        else:
            receive(call, body)

    def _resolve(self, call, future, body, preferred):
        if future.done():
            # Nobody waits any more; looking at the answer and dropping it releases its memory.
            self._codec.decode(body, 0, call)
        else:
            self.resolved += 1
            try:
                future.set_result(_granted(self._response(call, body), preferred))
            except Exception as error:
                future.set_exception(error)

    def _response(self, call, body):
        tensors, extras, _ = self._codec.decode(body, 0, call)
        if not extras:
            return InferenceResponse(tensors)
        extras = json.loads(extras)
        return InferenceResponse(tensors, errors.from_extras(extras), extras.get("parameters"))

    def _part(self, body):
        """One of several responses, and whether it is the last one."""
        _, extras_len, _, _ = frames.BLOCK.unpack_from(body, 0)
        extras = json.loads(body[16 : 16 + extras_len])
        tensors, _, _ = self._codec.decode(body, 0, extras["lease"])
        error = errors.from_extras(extras)
        return InferenceResponse(tensors, error, extras.get("parameters")), extras["last"]


def _granted(response, preferred):
    """A response as its request wants it: in the memory of a GPU, if there is one."""
    if preferred is None:
        return response
    gpu = device.preferred_gpu(preferred)
    if gpu is not None:
        response._outputs = [tensor.moved(one, gpu) for one in response._outputs]
    return response


def _call_in(loop, function, *arguments):
    """Calls a function in the thread of an event loop, which may be this one."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if loop is running:
        function(*arguments)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)


class ResponseIterator:
    """The responses to a request made with `decoupled=True`, one by one as they come.

    Works in `for` and, within `async def execute`, in `async for`. The last response may have
    neither outputs nor an error: many models end their responses so. Once it has been taken, the
    iterator may be gone through again.
    """

    def __init__(self, calls):
        self._calls = calls
        self._call = 0
        self._responses = []
        self._next = 0
        self._over = False
        self._arrival = None
        self._lock = threading.Lock()

    def __iter__(self) -> "ResponseIterator":
        if self._over and not self._is_behind():
            self._next = 0
        return self

    def __next__(self) -> InferenceResponse:
        if self._is_behind() or self._over:
            return self._take(StopIteration)
        self._calls.wait(self._is_behind)
        return self._take(StopIteration)

    def __aiter__(self) -> "ResponseIterator":
        return self.__iter__()

    async def __anext__(self) -> InferenceResponse:
        while not self._is_behind() and not self._over:
            loop = asyncio.get_running_loop()
            with self._lock:
                if self._is_behind():
                    break
                arrival = loop.create_future()
                self._arrival = (loop, arrival)
            if loop is not self._calls.loop:
                self._calls.read_until(loop, arrival)
            await arrival
        return self._take(StopAsyncIteration)

    def _is_behind(self):
        return self._next < len(self._responses)

    def _take(self, end):
        if not self._is_behind():
            raise end
        self._next += 1
        return self._responses[self._next - 1]

    def cancel(self) -> None:
        """Tells the model that no more responses are wanted. One that it has sent already may
        still come, and then the error that says that the request was cancelled."""
        if not self._over:
            self._calls.cancel(self._call)

    def _feed(self, response, last):
        with self._lock:
            self._responses.append(response)
            self._over = last
            (loop, arrival), self._arrival = self._arrival or (None, None), None
        if arrival is not None:
            _call_in(loop, _set, arrival)

    def __del__(self):
        if self._call and not self._over:
            self._calls.forget(self._call)


def _set(arrival):
    if not arrival.done():
        arrival.set_result(None)
