"""The worker's loop: reads frames, runs the model, writes answers.

Requests wait in the pipe while the model computes; all that one read brings is answered with one
write. A model that calls other models reads frames itself until its answer has come.
"""

import asyncio
import gc
import importlib.util
import inspect
import json
import os
import select
import sys
import threading
import time
import traceback
import weakref
from collections import deque

import numpy as np

from nereid_worker import errors, frames, messages, tensor
from nereid_worker.datatypes import STRING, pack_strings
from nereid_worker.memory import Arena
from nereid_worker.messages import InferenceResponse
from nereid_worker.tensor import Tensor, TritonModelException

# The worker of this process, while there is a server.
worker = None

_INLINE_BELOW = 1 << 16
_DESCRIPTIONS_KEPT = 1024
_CANCELLED_KEPT = 4096

# A batch that takes longer (seconds) is answered at once, and so are this many after it: answers
# share a write only where a write is a good part of what a batch costs.
_SLOW = 200e-6
_SLOW_LASTS = 64


class _ModelState:
    """What requests need to know of their model."""

    def __init__(self, config):
        self.model_name = config.get("name", "")
        self.output_names = [output["name"] for output in config.get("output", [])]
        policy = config.get("model_transaction_policy") or {}
        self.decoupled = bool(policy.get("decoupled"))


class Worker:
    """One instance of a model and its channel to the server."""

    def __init__(self):
        self.requests = int(os.environ["NEREID_REQUESTS_FD"])
        self.answers = int(os.environ["NEREID_ANSWERS_FD"])
        self.arena = Arena(int(os.environ["NEREID_ARENA_FD"]), int(os.environ["NEREID_ARENA_LEN"]))
        self.buffer = bytearray(1 << 20)
        self.filled = 0
        self.pending = deque()
        self.out = []
        self.released = []
        self.lock = threading.RLock()
        self.calls = 0
        self.call_answers = {}
        self.waiting = {}
        self.lent = {}
        self.descriptions = {}
        self.current = 0
        self.model = None
        self.state = None
        self.may_call = False
        self.event_loop = None
        self.cancelled = set()
        self.slow_left = 0
        # One thread reads, whichever it is; the others wait here for what it brings.
        self.turn = threading.Lock()
        self.arrived = threading.Condition(threading.Lock())
        self.waiters = 0

    # --- channel

    def read_until(self, ready):
        """Reads until `ready()`. Any number of threads may wait; one of them reads for all."""
        if self.turn.acquire(False):
            self._read_in_turn(ready)
            return
        arrived = self.arrived
        with arrived:
            self.waiters += 1
            try:
                while not ready():
                    if not self.turn.acquire(False):
                        arrived.wait()
                        continue
                    arrived.release()
                    try:
                        self._read_in_turn(ready)
                    finally:
                        arrived.acquire()
            finally:
                self.waiters -= 1

    def _read_in_turn(self, ready):
        try:
            while not ready():
                self.read()
                if self.waiters:
                    self._wake()
        finally:
            self._end_turn()

    def _end_turn(self):
        self.turn.release()
        # Whoever failed to take the turn was counted before, so nobody is missed here.
        if self.waiters:
            self._wake()

    def _wake(self):
        with self.arrived:
            self.arrived.notify_all()

    def read_what_is_there(self):
        """Reads without waiting."""
        if self.turn.acquire(False):
            try:
                if select.select([self.requests], (), (), 0)[0]:
                    self.read()
            finally:
                self._end_turn()

    def is_cancelled(self, frame_id):
        """Whether the server has given up a batch."""
        self.read_what_is_there()
        return frame_id in self.cancelled

    def read(self):
        """Blocks until the server sends something; puts whole frames into `pending`."""
        if self.filled == len(self.buffer):
            self.buffer.extend(bytes(len(self.buffer)))
        with memoryview(self.buffer) as view:
            count = os.readv(self.requests, [view[self.filled :]])
        if count == 0:
            os._exit(0)  # The server is gone; nothing that this process knows matters any more.
        self.filled += count
        self._split()

    def _split(self):
        buffer, at = self.buffer, 0
        while self.filled - at >= 16:
            length, kind, count, frame_id = frames.HEAD.unpack_from(buffer, at)
            if self.filled - at < length:
                if length > len(buffer):
                    buffer.extend(bytes(length - len(buffer)))
                break
            body = bytes(memoryview(buffer)[at + 16 : at + length])
            at += length
            if kind == frames.CALL_ANSWER:
                self._call_answered(frame_id, body)
            elif kind == frames.RELEASE_CHUNKS:
                for offset in memoryview(body).cast("Q"):
                    self.arena.release(offset)
            elif kind == frames.CANCEL:
                if len(self.cancelled) >= _CANCELLED_KEPT:
                    self.cancelled.clear()
                self.cancelled.add(frame_id)
            else:
                self.pending.append((kind, count, frame_id, body))
        if at:
            rest = self.filled - at
            buffer[:rest] = buffer[at : self.filled]
            self.filled = rest

    def flush(self):
        """Writes what has gathered, and then which memory is free again."""
        with self.lock:
            out, self.out = self.out, []
            if self.released:
                ids, self.released = self.released, []
                out.append(
                    frames.frame(
                        frames.RELEASE_ANSWERS, 0, 0, np.array(ids, dtype=np.uint64).tobytes()
                    )
                )
            data = out[0] if len(out) == 1 else b"".join(out)
            while data:
                data = data[os.write(self.answers, data) :]

    # --- tensors

    def encode(self, tensors, extras=b"", taken=None):
        """A block with these tensors; large ones are put into the arena.

        The chunks for them are noted in `taken`; without it, an error frees them.
        """
        if taken is None:
            taken = []
            try:
                return self.encode(tensors, extras, taken)
            except BaseException:
                self._free(taken)
                raise
        key, places, data = [], [], []
        for one in tensors:
            array = one._array
            number = one._number
            if array is None:
                self._place_bytes(one._data, places, data, taken)
            elif number == STRING:
                self._place_bytes(pack_strings(array), places, data, taken)
            elif array.nbytes < _INLINE_BELOW:
                packed = array.tobytes()
                places.append((frames.INLINE, len(packed)))
                data.append(packed)
                data.append(frames.padding(len(packed)))
            else:
                places.append((self._place_array(array, taken), array.nbytes))
            key.append((one._name, number, tuple(one._shape)))
        key = tuple(key)
        meta = self.descriptions.get(key)
        if meta is None:
            if len(self.descriptions) >= _DESCRIPTIONS_KEPT:
                self.descriptions.clear()
            meta = self.descriptions[key] = frames.describe(key)
        return frames.block(extras, meta, places, b"".join(data))

    def _free(self, taken):
        for offset in taken:
            self.arena.release(offset)

    def _place_array(self, array, taken):
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        address = array.__array_interface__["data"][0]
        offset = self.arena.offset_of(address, array.nbytes)
        if offset is None:
            offset = self.arena.allocate(array.nbytes)
            taken.append(offset)
            np.copyto(np.ndarray(array.shape, array.dtype, self.arena.map, offset), array)
        return offset

    def _place_bytes(self, packed, places, data, taken):
        length = len(packed)
        if length < _INLINE_BELOW:
            places.append((frames.INLINE, length))
            data.append(bytes(packed))
            data.append(frames.padding(length))
            return
        places.append((self._place_array(np.frombuffer(packed, np.uint8), taken), length))

    def decode(self, body, at, lender=None):
        """The block at `at`: its tensors, its extras, and where the next one starts."""
        block_len, extras_len, meta_len, count = frames.BLOCK.unpack_from(body, at)
        start = at + 16
        extras = body[start : start + extras_len]
        start += (extras_len + 7) & ~7
        meta = body[start : start + meta_len]
        table = start + meta_len
        data = table + 16 * count
        tensors = []
        for index, (name, number, shape) in enumerate(frames.read_meta(meta)):
            location, length = frames.PLACE.unpack_from(body, table + 16 * index)
            if location == frames.INLINE:
                # A copy of its own: the model may write to it and may keep it.
                memory = bytearray(body[data : data + length])
                data += (length + 7) & ~7
            else:
                if lender is None:
                    # Stays the server's until the batch is answered.
                    memory = self.arena.view[location : location + length]
                else:
                    memory = self.arena.lend(location, length)
                    self.lent.setdefault(lender, []).append(None)
                    weakref.finalize(memory, self._dropped, lender).atexit = False
            tensors.append(tensor.received(name, number, shape, memory))
        return tensors, extras, at + block_len

    def _dropped(self, call):
        """The last view of one tensor of an answer is gone. Runs in whatever thread dropped it."""
        left = self.lent[call]
        left.pop()
        if not left and self.lent.pop(call, None) is not None:
            self.released.append(call)

    # --- calls of other models

    def send_call(self, request, expect=None):
        """Sends a request of this model's; returns the number of the call."""
        if not self.may_call:
            raise TritonModelException(
                "requests to other models can only be made while 'execute' runs"
            )
        request.request_id()  # A received request may not have been parsed yet.
        extras = {key: value for key, value in request._parsed.items() if value}
        extras["model_name"] = request._model_name
        extras["model_version"] = request._model_version
        extras["request"] = self.current
        block = self.encode(request._inputs, json.dumps(extras).encode())
        with self.lock:
            self.calls += 1
            call = self.calls
            if expect is not None:
                expect(call)
            self.out.append(frames.frame(frames.CALL, call, 1, block))
        self.flush()
        return call

    def call(self, request, decoupled):
        """Runs a request on another model and waits; answers to others are kept meanwhile."""
        _refuse_decoupled(decoupled)
        call = self.send_call(request)
        answers = self.call_answers
        self.read_until(lambda: call in answers)
        return self._response(call, answers.pop(call))

    async def call_async(self, request, decoupled):
        """As `call`, but the event loop waits."""
        _refuse_decoupled(decoupled)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        # Registered under the number before another thread can read the answer.
        call = self.send_call(request, lambda number: self.waiting.update({number: (loop, future)}))
        return self._response(call, await future)

    def _call_answered(self, call, body):
        loop, future = self.waiting.pop(call, (None, None))
        if future is None:
            self.call_answers[call] = body
        elif loop is self.event_loop and threading.current_thread() is threading.main_thread():
            self._resolve(call, future, body)
        else:
            loop.call_soon_threadsafe(self._resolve, call, future, body)

    def _resolve(self, call, future, body):
        if future.done():
            # Nobody waits any more; looking at the answer and dropping it releases its memory.
            self.decode(body, 0, call)
        else:
            future.set_result(body)

    def _response(self, call, body):
        tensors, extras, _ = self.decode(body, 0, call)
        if not extras:
            return InferenceResponse(tensors)
        extras = json.loads(extras)
        return InferenceResponse(tensors, errors.from_extras(extras), extras.get("parameters"))

    # --- the model

    def initialize(self, body):
        """Imports the model and makes it ready."""
        _, extras, _ = self.decode(body, 0)
        start = json.loads(extras)
        self.arena.set_span(*start["span"])
        args = start["args"]
        self.state = _ModelState(json.loads(args["model_config"]))
        module = import_model(start)
        if not hasattr(module, "TritonPythonModel"):
            raise TritonModelException(
                "%s has no class TritonPythonModel" % start["model_file"]
            )
        self.model = module.TritonPythonModel()
        if not hasattr(self.model, "execute"):
            raise TritonModelException("class TritonPythonModel has no method execute")
        if hasattr(self.model, "initialize"):
            self.model.initialize(args)
        self.is_async = inspect.iscoroutinefunction(self.model.execute)
        self.may_call = True
        # What lives now lives for good: the collector need not look at it again.
        gc.collect()
        gc.freeze()

    def execute(self, count, frame_id, body):
        """Runs one batch and puts its answer into the next write."""
        requests, at = [], 0
        for index in range(count):
            inputs, extras, at = self.decode(body, at)
            requests.append(messages.received(inputs, extras, frame_id, index, self.state))
        self.current = frame_id
        decoupled = self.state.decoupled
        if decoupled:
            for request in requests:
                request._sender = ResponseSender(self, frame_id, request._index)
        taken = []
        start = time.perf_counter()
        try:
            responses = self.model.execute(requests)
            if self.is_async:
                responses = self._run_async(responses)
            if decoupled and responses is None:
                answer = frames.frame(frames.EXECUTED, frame_id)
            else:
                _check_responses(requests, responses)
                blocks = [self.encode_response(response, None, taken) for response in responses]
                answer = frames.frame(frames.EXECUTED, frame_id, len(blocks), b"".join(blocks))
        except Exception as error:
            traceback.print_exc()
            self._free(taken)
            answer = self._failed(frame_id, describe_error(error))
        with self.lock:
            self.out.append(answer)
        if not decoupled and self.cancelled:
            self.cancelled.discard(frame_id)
        if time.perf_counter() - start > _SLOW:
            self.slow_left = _SLOW_LASTS
        if self.slow_left:
            self.slow_left -= 1
            self.flush()

    def encode_response(self, response, extras=None, taken=None):
        """A block for one response, or for the error that it turned out to be."""
        taken = [] if taken is None else taken
        before = len(taken)
        try:
            if extras is None and response._error is None and not response._parameters:
                return self.encode(response._outputs, b"", taken)
            extras = extras or {}
            if response._error is not None:
                extras.update(errors.to_extras(response._error))
                return self.encode((), json.dumps(extras).encode())
            if response._parameters:
                extras["parameters"] = response._parameters
            return self.encode(response._outputs, json.dumps(extras).encode(), taken)
        except BaseException as error:
            self._free(taken[before:])
            del taken[before:]
            if not isinstance(error, MemoryError):
                raise
            extras = {**(extras or {}), **errors.to_extras(errors.TritonError(str(error)))}
            return self.encode((), json.dumps(extras).encode())

    def _failed(self, frame_id, message):
        extras = errors.to_extras(errors.TritonError(message))
        return frames.frame(
            frames.FAILED, frame_id, 1, self.encode((), json.dumps(extras).encode())
        )

    def _run_async(self, coroutine):
        if self.event_loop is None:
            self.event_loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.event_loop)
        self.event_loop.add_reader(self.requests, self.read_what_is_there)
        try:
            return self.event_loop.run_until_complete(coroutine)
        finally:
            self.event_loop.remove_reader(self.requests)

    def finalize(self):
        """Lets the model say good-bye."""
        self.may_call = False
        try:
            if hasattr(self.model, "finalize"):
                self.model.finalize()
        except Exception:
            traceback.print_exc()
        self.out.append(frames.frame(frames.FINALIZED, 0))
        self.flush()

    def log(self, level, message):
        """Sends a line to the server's log."""
        extras = json.dumps({"level": level, "message": message}).encode()
        with self.lock:
            self.out.append(frames.frame(frames.LOG, 0, 1, self.encode((), extras)))
        # A model logs before what takes long, or before it dies.
        self.flush()

    def run(self):
        """Serves until the server ends or asks to finalize."""
        pending = self.pending
        while True:
            if not pending:
                if self.out or self.released:
                    self.flush()
                self.read_until(pending.__len__)
                continue
            kind, count, frame_id, body = pending.popleft()
            if kind == frames.EXECUTE:
                self.execute(count, frame_id, body)
            elif kind == frames.INIT:
                try:
                    self.initialize(body)
                except BaseException as error:
                    traceback.print_exc()
                    self.out.append(self._failed(0, describe_error(error)))
                    self.flush()
                    return 1
                self.out.append(frames.frame(frames.READY, 0))
            elif kind == frames.FINALIZE:
                self.finalize()
                return 0


class ResponseSender:
    """`pb_utils.InferenceResponseSender`: sends the responses of one request, one by one."""

    def __init__(self, owner, frame_id, index):
        self._owner = owner
        self._frame = frame_id
        self._index = index
        self._closed = False

    def send(self, response=None, flags=0):
        """Sends a response; flag TRITONSERVER_RESPONSE_COMPLETE_FINAL (1) ends the request."""
        if self._closed:
            raise TritonModelException(
                "Unable to send response. Response sender has been closed."
            )
        last = bool(flags & 1)
        if response is None and not last:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        self._closed = last
        extras = {"request": self._index, "last": last}
        response = InferenceResponse() if response is None else response
        with self._owner.lock:
            block = self._owner.encode_response(response, extras)
            self._owner.out.append(frames.frame(frames.RESPONSE, self._frame, 1, block))
        self._owner.flush()

    def is_cancelled(self):
        """Whether the client has hung up."""
        return self._owner.is_cancelled(self._frame)


def _refuse_decoupled(decoupled):
    if decoupled:
        raise TritonModelException("calling decoupled models is not supported yet")


def import_model(start):
    """Imports the model file as Triton does: its neighbours can be imported too."""
    for folder in (start["model_dir"], start["version_dir"]):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    path = start["model_file"]
    name = "model_%s" % abs(hash(path))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise TritonModelException("%s is not a Python file" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _check_responses(requests, responses):
    if not isinstance(responses, (list, tuple)):
        raise TritonModelException(
            "Expected a list in the execute return, found type '%s'." % type(responses).__name__
        )
    if len(responses) != len(requests):
        raise TritonModelException(
            "Number of InferenceResponse objects do not match the number of InferenceRequest "
            "objects. InferenceRequest(s) size is:%d, and InferenceResponse(s) size is:%d\n"
            % (len(requests), len(responses))
        )
    for response in responses:
        if not isinstance(response, InferenceResponse):
            raise TritonModelException(
                "Expected an 'InferenceResponse' object in the execute function return list, "
                "found type '%s'." % type(response).__name__
            )
        for output in response._outputs:
            if not isinstance(output, Tensor):
                raise TritonModelException(
                    "Expected a 'Tensor' among the outputs of a response, found type '%s'."
                    % type(output).__name__
                )


def describe_error(error):
    """The error for the client: its kind, its text, and where it happened."""
    if isinstance(error, SyntaxError):
        return "".join(traceback.format_exception_only(type(error), error)).rstrip()
    lines = ["%s: %s" % (type(error).__name__, error), "", "At:"]
    steps = traceback.extract_tb(error.__traceback__)
    own = os.path.dirname(__file__)
    for step in reversed([s for s in steps if not s.filename.startswith(own)]):
        lines.append("  %s(%s): %s" % (step.filename, step.lineno, step.name))
    return "\n".join(lines) + "\n" if len(lines) > 3 else lines[0]


def run():
    """Runs the worker of this process to its end."""
    global worker
    worker = Worker()
    return worker.run()
