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
import sys
import threading
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

    # --- channel

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

    def encode(self, tensors, extras=b""):
        """A block with these tensors; large ones are put into the arena."""
        key, places, data = [], [], []
        for one in tensors:
            array = one._array
            number = one._number
            if array is None:
                self._place_bytes(one._data, places, data)
            elif number == STRING:
                self._place_bytes(pack_strings(array), places, data)
            elif array.nbytes < _INLINE_BELOW:
                packed = array.tobytes()
                places.append((frames.INLINE, len(packed)))
                data.append(packed)
                data.append(frames.padding(len(packed)))
            else:
                places.append((self._place_array(array), array.nbytes))
            key.append((one._name, number, tuple(one._shape)))
        key = tuple(key)
        meta = self.descriptions.get(key)
        if meta is None:
            if len(self.descriptions) >= _DESCRIPTIONS_KEPT:
                self.descriptions.clear()
            meta = self.descriptions[key] = frames.describe(key)
        return frames.block(extras, meta, places, b"".join(data))

    def _place_array(self, array):
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        address = array.__array_interface__["data"][0]
        offset = self.arena.offset_of(address, array.nbytes)
        if offset is None:
            offset = self.arena.allocate(array.nbytes)
            np.copyto(np.ndarray(array.shape, array.dtype, self.arena.map, offset), array)
        return offset

    def _place_bytes(self, packed, places, data):
        length = len(packed)
        if length < _INLINE_BELOW:
            places.append((frames.INLINE, length))
            data.append(bytes(packed))
            data.append(frames.padding(length))
            return
        places.append((self._place_array(np.frombuffer(packed, np.uint8)), length))

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
                memory = self.arena.view[location : location + length]
                if lender is not None:
                    self.lent[lender] = self.lent.get(lender, 0) + 1
                    weakref.finalize(memory, self._dropped, lender)
            tensors.append(tensor.received(name, number, shape, memory))
        return tensors, extras, at + block_len

    def _dropped(self, call):
        """The last view of one tensor of an answer is gone."""
        left = self.lent[call] - 1
        if left:
            self.lent[call] = left
        else:
            del self.lent[call]
            self.released.append(call)

    # --- calls of other models

    def send_call(self, request):
        """Sends a request of this model's; returns the number of the call."""
        if not self.may_call:
            raise TritonModelException(
                "requests to other models can only be made while 'execute' runs"
            )
        extras = {key: value for key, value in request._parsed.items() if value}
        extras["model_name"] = request._model_name
        extras["model_version"] = request._model_version
        extras["request"] = self.current
        block = self.encode(request._inputs, json.dumps(extras).encode())
        with self.lock:
            self.calls += 1
            call = self.calls
            self.out.append(frames.frame(frames.CALL, call, 1, block))
        self.flush()
        return call

    def call(self, request, decoupled):
        """Runs a request on another model and waits; answers to others are kept meanwhile."""
        _refuse_decoupled(decoupled)
        call = self.send_call(request)
        answers = self.call_answers
        while call not in answers:
            self.read()
        return self._response(call, answers.pop(call))

    async def call_async(self, request, decoupled):
        """As `call`, but the event loop waits."""
        _refuse_decoupled(decoupled)
        call = self.send_call(request)
        future = asyncio.get_running_loop().create_future()
        self.waiting[call] = future
        return self._response(call, await future)

    def _call_answered(self, call, body):
        future = self.waiting.pop(call, None)
        if future is None:
            self.call_answers[call] = body
        elif not future.done():
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
        module = _import_model(start)
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
        try:
            responses = self.model.execute(requests)
            if self.is_async:
                responses = self._run_async(responses)
            if decoupled and responses is None:
                answer = frames.frame(frames.EXECUTED, frame_id)
            else:
                _check_responses(requests, responses)
                blocks = [self.encode_response(response) for response in responses]
                answer = frames.frame(frames.EXECUTED, frame_id, len(blocks), b"".join(blocks))
        except Exception as error:
            traceback.print_exc()
            answer = self._failed(frame_id, describe_error(error))
        with self.lock:
            self.out.append(answer)

    def encode_response(self, response, extras=None):
        """A block for one response, or for the error that it turned out to be."""
        extras = dict(extras or {})
        if response._error is not None:
            extras.update(errors.to_extras(response._error))
            return self.encode((), json.dumps(extras).encode())
        if response._parameters:
            extras["parameters"] = response._parameters
        encoded = json.dumps(extras).encode() if extras else b""
        try:
            return self.encode(response._outputs, encoded)
        except MemoryError as error:
            extras.update(errors.to_extras(errors.TritonError(str(error))))
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
        self.event_loop.add_reader(self.requests, self.read)
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

    def run(self):
        """Serves until the server ends or asks to finalize."""
        pending = self.pending
        while True:
            if not pending:
                if self.out or self.released:
                    self.flush()
                self.read()
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
        self._closed = last
        extras = {"request": self._index, "last": last}
        response = InferenceResponse() if response is None else response
        with self._owner.lock:
            block = self._owner.encode_response(response, extras)
            self._owner.out.append(frames.frame(frames.RESPONSE, self._frame, 1, block))
        self._owner.flush()

    def is_cancelled(self):
        """Whether the client has hung up."""
        return False


def _refuse_decoupled(decoupled):
    if decoupled:
        raise TritonModelException("calling decoupled models is not supported yet")


def _import_model(start):
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
