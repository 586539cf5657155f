#!/usr/bin/env python3
"""Ten thousand sequences at a time over four instances, round after round: some end, some are left
without a word, of some the client hangs up in the middle of a request.

Every round needs all slots at the same moment, so it does not come to its end if any slot of the
round before was lost; and the server's memory must not grow. It does the same in every round, so
what it lost of each sequence would show as a slope: after three rounds, in which pools and the
allocator find their size, a line through the memory after each may rise by no more than 16 bytes for
a sequence. Needs what the tests need:

    .venv/bin/python scripts/sequences.py [--sequences 10000] [--rounds 12]
"""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from harness import Server, write_model  # noqa: E402

INSTANCES = 4
# Rounds whose memory does not count, and bytes for a sequence that may seem to be lost after them.
SETTLING, LOST_PER_SEQUENCE = 3, 16
# Of ten sequences: one is abandoned, one is cancelled.
ABANDONED, CANCELLED, KINDS = 3, 7, 10

CONFIG = """
    backend: "dyna_sequence"
    max_batch_size: 64
    input [ { name: "INPUT" data_type: TYPE_INT64 dims: [ 1 ] } ]
    output [ { name: "OUTPUT" data_type: TYPE_INT64 dims: [ 1 ] } ]
    instance_group [ { count: %d } ]
    sequence_batching {
      max_sequence_idle_microseconds: %d
      oldest { max_candidate_sequences: %d }
      control_input [
        { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
        { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
        { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] },
        { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
      ]
    }
"""


def message(sequence, value, start=False, end=False):
    request = service_pb2.ModelInferRequest(model_name="sums")
    request.inputs.add(name="INPUT", datatype="INT64", shape=[1, 1])
    request.raw_input_contents.append(np.int64(value).tobytes())
    request.parameters["sequence_id"].int64_param = sequence
    request.parameters["sequence_start"].bool_param = start
    request.parameters["sequence_end"].bool_param = end
    return request


class Round:
    """All sequences, from the first request of each to the end."""

    def __init__(self, server, stubs, count, limit):
        self.server, self.stubs, self.count, self.limit = server, stubs, count, limit
        self.begun, self.wrong = 0, []
        self.all_begun = asyncio.Event()
        self.hanging_up = asyncio.Semaphore(100)

    async def run(self):
        await asyncio.gather(*(self.sequence(number) for number in range(1, self.count + 1)))

    async def sequence(self, number):
        await self.ask(number, 1, 1, start=True)
        self.begun += 1
        if self.begun == self.count:
            self.all_begun.set()
        await asyncio.wait_for(self.all_begun.wait(), self.limit)
        if number % KINDS == ABANDONED:
            return
        if number % KINDS == CANCELLED:
            await self.hang_up(number)
            return
        await self.ask(number, 2, 3)
        await self.ask(number, 3, 6 + number, end=True)

    async def ask(self, number, value, expected, **flags):
        stub = self.stubs[number % len(self.stubs)]
        response = await stub.ModelInfer(message(number, value, **flags), timeout=self.limit)
        got = int(np.frombuffer(response.raw_output_contents[0], np.int64)[0])
        if got != expected:
            self.wrong.append((number, expected, got))

    async def hang_up(self, number):
        """Sends a request over HTTP and closes the connection without having read the answer."""
        tensor = {"name": "INPUT", "datatype": "INT64", "shape": [1, 1], "data": [2]}
        body = json.dumps({"parameters": {"sequence_id": number}, "inputs": [tensor]}).encode()
        head = "POST /v2/models/sums/infer HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n"
        async with self.hanging_up:
            _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            writer.write((head % len(body)).encode() + body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def memory(server):
    """Bytes of the server's own memory: files that are mapped do not count."""
    status = Path("/proc/%d/status" % server.process.pid).read_text()
    [line] = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def slope(values):
    """By how much they rise from one to the next: of the line with the least squares."""
    middle = (len(values) - 1) / 2
    spread = sum((at - middle) ** 2 for at in range(len(values)))
    return sum((at - middle) * value for at, value in enumerate(values)) / spread


async def run(server, arguments):
    channels = [grpc.aio.insecure_channel(server.grpc_url) for _ in range(8)]
    stubs = [service_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in channels]
    sizes = []
    for number in range(1, arguments.rounds + 1):
        began = time.monotonic()
        attempt = Round(server, stubs, arguments.sequences, arguments.limit)
        await attempt.run()
        took = time.monotonic() - began
        # What was abandoned gives its slot back by being silent.
        await asyncio.sleep(arguments.idle + 1)
        sizes.append(memory(server))
        print("round %d: %.1f s, %d wrong answers, %.2f MiB of memory" % (
            number, took, len(attempt.wrong), sizes[-1] / 2**20), flush=True)
        assert not attempt.wrong, attempt.wrong[:5]
    for channel in channels:
        await channel.close()
    return sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--idle", type=int, default=20, help="seconds until silence ends a sequence")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one answer")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    slots = -(-arguments.sequences // INSTANCES)
    with tempfile.TemporaryDirectory() as repository:
        write_model(repository, "sums", CONFIG % (INSTANCES, arguments.idle * 1_000_000, slots))
        with Server(repository) as server:
            sizes = asyncio.run(run(server, arguments))
    settled = sizes[SETTLING:]
    if len(settled) < 2:
        return
    per_sequence = slope(settled) / arguments.sequences
    print("memory rises by %.2f bytes for a sequence" % per_sequence)
    if per_sequence > LOST_PER_SEQUENCE:
        sys.exit("memory grows")


if __name__ == "__main__":
    main()
