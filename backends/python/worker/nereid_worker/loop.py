"""The worker of one instance: receives batches, runs the model, answers."""

import asyncio
import faulthandler
import gc
import inspect
import json
import os
import sys
import threading
import time
import traceback
import types

from nereid_worker import calls, current, device, errors, frames, messages
from nereid_worker.channel import Channel
from nereid_worker.codec import Codec
from nereid_worker.errors import Refusal
from nereid_worker.importing import describe_error, import_model
from nereid_worker.memory import Arena
from nereid_worker.messages import InferenceResponse
from nereid_worker.sender import InferenceResponseSender

# A batch that takes longer (seconds) is answered at once, and so are this many after it: answers
# share a write only where a write is a good part of what a batch costs.
_SLOW = 200e-6
_SLOW_LASTS = 64

# Where several threads execute, a thread whose answer has come should not wait long for its turn.
_SWITCH_INTERVAL = 50e-6

_RESCHEDULE = 2


class _ModelState:
    """What requests need to know of their model."""

    def __init__(self, config, instance_name):
        self.model_name = config.get("name", "")
        self.instance_name = instance_name
        self.output_names = [output["name"] for output in config.get("output", [])]
        policy = config.get("model_transaction_policy") or {}
        self.decoupled = bool(policy.get("decoupled"))


class Worker:
    """One instance of a model and its channel to the server."""

    def __init__(self):
        self.arena = Arena(int(os.environ["NEREID_ARENA_FD"]), int(os.environ["NEREID_ARENA_LEN"]))
        self.channel = Channel(
            int(os.environ["NEREID_REQUESTS_FD"]), int(os.environ["NEREID_ANSWERS_FD"]), self.work
        )
        self.codec = Codec(self.arena, lambda answer: self.channel.released.append(answer))
        self.calls = calls.Calls(self.channel, self.codec)
        self.calls.run_nested = self.execute
        self.model = None
        self.state = None
        self.args = None
        self.threads = 1
        self.is_async = False
        # Where coroutines run that a plain `execute` has returned.
        self.coroutines = None
        self.ending = False
        self.finalizing = False
        # (frame, place in the batch) of requests that the model has asked about.
        self.watched = set()
        self.cancelled = set()
        # How many responses may still be sent, by (frame, place in the batch), of the requests whose
        # responses must not come faster than they are used.
        self.room = {}
        self.slow_left = 0
        self.channel.handlers.update(
            {
                frames.RELEASE_CHUNKS: self._chunks_released,
                frames.RELEASE_DEVICE: lambda _, number, __: self.codec.devices.forget(number),
                frames.CANCEL: lambda index, frame, _: self.cancelled.add((frame, index)),
                frames.WATCHED: lambda index, frame, _: self.watched.add((frame, index)),
                frames.ROOM: self._room_made,
                frames.MAP: self._region_told,
                frames.UNMAP: lambda _, location, __: self.codec.lent.unmap(location),
                frames.FINALIZE: self._finalize_asked,
            }
        )

    def work(self):
        """How many batches wait; when this worker is to end, there is enough for all threads."""
        return len(self.channel.pending) + len(self.calls.nested) + (self.ending and self.threads)

    def _chunks_released(self, _count, _frame, body):
        for offset in memoryview(body).cast("Q"):
            self.arena.release(offset)

    def _room_made(self, index, frame, _body):
        if (frame, index) in self.room:
            self.room[frame, index] += 1

    def _region_told(self, _count, location, body):
        mapped = self.codec.lent.map(location, *memoryview(body).cast("Q"))
        self.channel.later(frames.frame(frames.MAPPED, location, int(mapped)))

    def _finalize_asked(self, *_):
        self.ending = True

    # --- what requests ask of their worker

    def sender(self, request):
        """The response sender of a request that was received."""
        window = request._info("window", None)
        if window is not None:
            self.room[request._frame, request._index] = window
        # The client may have its answer, and use its memory again, while `execute` goes on.
        if not self.state.decoupled:
            self.codec.own(request._inputs)
        return InferenceResponseSender(self, request._frame, request._index, self.state.decoupled)

    def wait_for_room(self, frame, index):
        """Waits until another response of a request may be sent."""
        key, room = (frame, index), self.room
        if room.get(key, 1) <= 0:
            self.channel.flush()
            self.channel.turns.wait(lambda: room.get(key, 1) > 0)
        if key in room:
            room[key] -= 1

    def is_cancelled(self, frame, index):
        """Whether a request has been cancelled. Asked for the first time, the server says how it
        stands; later it tells by itself."""
        key = (frame, index)
        if key not in self.watched:
            self.channel.send(frames.frame(frames.WATCH, frame, index))
            self.channel.turns.wait(lambda: key in self.watched)
        elif key not in self.cancelled:
            self.channel.read_what_is_there()
        return key in self.cancelled

    def log(self, level, message):
        """Sends a line to the server's log, at once: a model logs before what takes long, or
        before it dies."""
        note = self.codec.note({"level": level, "message": message})
        self.channel.send(frames.frame(frames.LOG, 0, 1, note))

    # --- the model

    def initialize(self, body):
        """Imports the model and makes it ready."""
        _, extras, _ = self.codec.decode(body, 0)
        start = json.loads(extras)
        self.arena.set_span(*start["span"])
        args = start["args"]
        self.args = args
        config, name = json.loads(args["model_config"]), args.get("model_instance_name", "")
        self.state = _ModelState(config, name)
        device.use_gpu_of(args)
        self.threads = start.get("execute_threads", 1)
        self.codec.devices.offer(start.get("devices", False))
        module = import_model(start)
        if not hasattr(module, "TritonPythonModel"):
            raise Refusal("%s has no class TritonPythonModel" % start["model_file"])
        self.model = module.TritonPythonModel()
        if not hasattr(self.model, "execute"):
            raise Refusal("class TritonPythonModel has no method execute")
        if hasattr(self.model, "initialize"):
            self.model.initialize(args)
        self.is_async = inspect.iscoroutinefunction(self.model.execute)
        self.calls.allowed = True
        # What lives now lives for good: the collector need not look at it again.
        gc.collect()
        gc.freeze()

    def execute(self, count, frame_id, body):
        """Runs one batch and puts its answer into the next write."""
        start = time.perf_counter()
        calls.batch.set(frame_id)
        requests, responses, borrowed = None, None, []
        try:
            requests = self._requests(count, frame_id, body, borrowed)
            # Held until the answer that names its memory has its place among the frames.
            responses = self.model.execute(requests)
            if type(responses) is types.CoroutineType:
                responses = self._run_coroutine(responses)
            answer = self._answer(requests, frame_id, responses)
        except BaseException as error:  # a model may even ask to exit
            answer = self._fail(frame_id, error, borrowed)
        if self.watched:
            self._forget(requests)
        channel = self.channel
        with channel.lock:
            requests = responses = None
            if borrowed:
                channel.out.append(self.codec.keep(frame_id, borrowed))
            channel.out.append(answer)
        if time.perf_counter() - start > _SLOW:
            self.slow_left = _SLOW_LASTS
        if self.slow_left:
            self.slow_left -= 1
            self.channel.flush()

    def _run_coroutine(self, coroutine):
        """What a coroutine returns that came from an `execute` which does not look like one: it may
        be decorated. That of a decoupled model goes on in the background."""
        if self.coroutines is None:
            self.coroutines = asyncio.new_event_loop()
            threading.Thread(target=self.coroutines.run_forever, daemon=True).start()
        running = asyncio.run_coroutine_threadsafe(coroutine, self.coroutines)
        if not self.state.decoupled:
            return running.result()
        running.add_done_callback(_print_failure)
        return None

    def tell_ready(self, ask):
        """Lets the model say whether it is ready."""
        try:
            ready = self.model.is_ready()
            if inspect.isawaitable(ready):
                ready = asyncio.run(_result(ready))
        except Exception:
            traceback.print_exc()
            ready = False
        self.channel.send(frames.frame(frames.READY_STATE, ask, int(bool(ready))))

    async def tell_ready_async(self, ask):
        """As `tell_ready`, on the event loop."""
        try:
            ready = self.model.is_ready()
            if inspect.isawaitable(ready):
                ready = await ready
        except Exception:
            traceback.print_exc()
            ready = False
        self.channel.send(frames.frame(frames.READY_STATE, ask, int(bool(ready))))

    async def execute_async(self, count, frame_id, body):
        """As `execute`, for a model whose `execute` is a coroutine. That of a decoupled model goes
        on in the background: the next batch need not wait for it."""
        calls.batch.set(frame_id)  # In the context of this task.
        requests, responses, answer, borrowed = None, None, None, []
        try:
            requests = self._requests(count, frame_id, body, borrowed)
            running = self.model.execute(requests)
            if self.state.decoupled:
                self.channel.send(frames.frame(frames.EXECUTED, frame_id))
                _refuse_responses(await running)
            else:
                responses = await running
                answer = self._answer(requests, frame_id, responses)
        except Exception as error:
            answer = self._fail(frame_id, error, borrowed)
        if self.watched:
            self._forget(requests)
        with self.channel.lock:
            requests = responses = running = None
            if borrowed:
                self.channel.out.append(self.codec.keep(frame_id, borrowed))
            if answer is not None:
                self.channel.out.append(answer)
        self.channel.flush_or_hold()

    def _requests(self, count, frame_id, body, borrowed):
        requests, at = [], 0
        for index in range(count):
            inputs, extras, at = self.codec.decode(body, at, None, borrowed)
            requests.append(messages.received(inputs, extras, frame_id, index, self.state))
        if borrowed and self.state.decoupled:
            # A last response may leave before `execute` returns, and with it goes the request.
            self.channel.later(self.codec.keep(frame_id, borrowed))
        return requests

    def _answer(self, requests, frame_id, responses):
        """The frame with what `execute` has returned."""
        if self.state.decoupled:
            _refuse_responses(responses)
            return self._returned(requests, frame_id)
        if responses is None and any(request._sender is not None for request in requests):
            responses = [None] * len(requests)
        _check_responses(requests, responses)
        taken = []
        try:
            encode = self.codec.encode_response
            blocks = [
                self._no_response(request) if response is None else encode(response, None, taken)
                for request, response in zip(requests, responses)
            ]
        except BaseException:
            self.codec.free(taken)
            raise
        return frames.frame(frames.EXECUTED, frame_id, len(blocks), b"".join(blocks))

    def _returned(self, requests, frame_id):
        """The frame that says that `execute` of a decoupled model has returned."""
        again = [r for r in requests if r._release_flags == _RESCHEDULE]
        if not again:
            return frames.frame(frames.EXECUTED, frame_id)
        for request in again:
            if request._sender is not None:
                request._sender._close()
        note = self.codec.note({"reschedule": [request._index for request in again]})
        return frames.frame(frames.EXECUTED, frame_id, 0, note)

    def _no_response(self, request):
        """A block that says what becomes of a request that `execute` returned None for."""
        return self.codec.note({"none": request._release_flags})

    def _forget(self, requests):
        """What was asked about the cancellation of requests that are over."""
        if not self.state.decoupled:
            for request in requests or ():
                self.watched.discard((request._frame, request._index))
                self.cancelled.discard((request._frame, request._index))

    def _fail(self, frame_id, error, borrowed):
        """Puts the error into the next write, before the response senders that its traceback holds
        go and say that they were dropped. Returns what is left to be written: nothing."""
        answer = self._failed(frame_id, error)
        with self.channel.lock:
            if borrowed:
                self.channel.out.append(self.codec.keep(frame_id, borrowed, failed=True))
            self.channel.out.append(answer)
        return b""

    def _failed(self, frame_id, error):
        """The frame for an error, whose traceback goes to the log."""
        traceback.print_exc()
        note = self.codec.note(errors.to_extras(errors.TritonError(describe_error(error))))
        return frames.frame(frames.FAILED, frame_id, 1, note)

    def finalize(self):
        """Lets the model say good-bye."""
        self.calls.allowed = False
        self.finalizing = True
        try:
            if hasattr(self.model, "finalize"):
                self.model.finalize()
        except Exception:
            traceback.print_exc()
        self.channel.send(frames.frame(frames.FINALIZED, 0))

    # --- serving

    def run(self):
        """Serves until the server ends or asks to finalize."""
        channel = self.channel
        channel.turns.wait(channel.pending.__len__)
        _, _, _, body = channel.pending.popleft()
        try:
            self.initialize(body)
        except BaseException as error:
            channel.send(self._failed(0, error))
            return 1
        channel.send(frames.frame(frames.READY, 0, int(hasattr(self.model, "is_ready"))))
        if self.is_async:
            asyncio.run(self._serve_async())
        elif self.threads == 1:
            self._serve()
        else:
            self._serve_in_threads()
        self.finalize()
        return 0

    def _serve(self):
        """Runs batches until the end."""
        channel, pending, nested = self.channel, self.channel.pending, self.calls.nested

        while True:
            try:
                if nested:
                    self.execute(*nested.popleft())
                elif pending:
                    kind, count, frame_id, body = pending.popleft()
                    if kind == frames.EXECUTE:
                        self.execute(count, frame_id, body)
                    else:
                        self.tell_ready(frame_id)
                elif self.ending:
                    return
                else:
                    if channel.out or channel.released:
                        channel.flush()
                    channel.turns.wait_for_work()
            except IndexError:
                pass  # Another thread was faster.

    def _serve_in_threads(self):
        """Runs several batches at a time, in as many threads as the model's configuration says."""
        sys.setswitchinterval(_SWITCH_INTERVAL)
        others = [
            threading.Thread(target=self._serve_too, name="execute-%d" % number)
            for number in range(1, self.threads)
        ]
        for thread in others:
            thread.start()
        self._serve()
        for thread in others:
            thread.join()

    def _serve_too(self):
        device.use_gpu_of(self.args)
        self._serve()

    async def _serve_async(self):
        """Runs batches as tasks of an event loop: one at a time, or as many as the model's
        configuration says, or, of a decoupled model, all that come."""
        loop, channel = asyncio.get_running_loop(), self.channel
        self.calls.loop = loop
        pending, nested, running = channel.pending, self.calls.nested, set()
        over = loop.create_future()
        started = 0

        def start(work):
            nonlocal started
            started += 1
            task = loop.create_task(work)
            running.add(task)
            task.add_done_callback(ended)

        def ended(task):
            running.discard(task)
            go_on()

        def go_on():
            while nested:
                start(self.execute_async(*nested.popleft()))
            while pending and (self.state.decoupled or len(running) < self.threads):
                kind, count, frame_id, body = pending.popleft()
                if kind == frames.EXECUTE:
                    start(self.execute_async(count, frame_id, body))
                else:
                    start(self.tell_ready_async(frame_id))
            if self.ending and not running and not over.done():
                over.set_result(None)

        def readable():
            before = started + self.calls.resolved
            channel.read_what_is_there()
            go_on()
            steps = started + self.calls.resolved - before
            if steps > 1 and not self.slow_left:
                # These steps are next. What they send shares a write, if they are short.
                channel.held_by = threading.get_ident()
                loop.call_soon(steps_done, steps, time.perf_counter())
            elif self.slow_left:
                self.slow_left -= 1

        def steps_done(steps, since):
            channel.held_by = 0
            channel.flush()
            if time.perf_counter() - since > steps * _SLOW:
                self.slow_left = _SLOW_LASTS

        def read_elsewhere():
            loop.call_soon_threadsafe(go_on)

        channel.turns.notify = read_elsewhere
        loop.add_reader(channel.requests, readable)
        go_on()
        await over
        loop.remove_reader(channel.requests)
        channel.turns.notify = None


async def _result(awaitable):
    return await awaitable


def _print_failure(running):
    try:
        running.result()
    except Exception:
        traceback.print_exc()


def _refuse_responses(responses):
    if responses is not None:
        raise Refusal(
            "Python model '%s' is using the decoupled mode and the execute function must return "
            "None." % current.worker.state.instance_name
        )


def _check_responses(requests, responses):
    if not isinstance(responses, list):
        raise Refusal(
            "Expected a list in the execute return, found type '%s'." % type(responses)
        )
    if len(responses) != len(requests):
        raise Refusal(
            "Number of InferenceResponse objects do not match the number of InferenceRequest "
            "objects. InferenceRequest(s) size is:%d, and InferenceResponse(s) size is:%d\n"
            % (len(requests), len(responses))
        )
    for request, response in zip(requests, responses):
        sender, again = request._sender, request._release_flags == _RESCHEDULE
        if again and response is not None:
            raise Refusal(
                "Expected a None object in the execute function return list for reschduled "
                "request, found type '%s'." % type(response)
            )
        if sender is not None and (again or response is not None):
            sender._close()
        if response is None and (again or sender is not None):
            continue
        if not isinstance(response, InferenceResponse):
            raise Refusal(
                "Expected an 'InferenceResponse' object in the execute function return list, "
                "found type '%s'." % type(response)
            )


def run():
    """Runs the worker of this process to its end."""
    # What a crash in native code leaves behind: the Python lines that led there.
    faulthandler.enable()
    current.worker = Worker()
    return current.worker.run()
