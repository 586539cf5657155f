"""Inputs in the memory of clients: read in place, and what a model does to them stays its own."""

import mmap
import os
import struct

import numpy as np
import pytest
from fake_server import EXECUTE, EXECUTED, FAILED, MAP, MAPPED, UNMAP, block, frame, note
from test_worker import BIG, MODEL

START = 1 << 60
PAGE = mmap.PAGESIZE


class Region:
    """Memory of a client: `where` is where an array in it starts, off the page."""

    where = PAGE + 64

    def __init__(self, server):
        self.server, self.descriptor = server, os.memfd_create("region")
        self.size = self.where + BIG.nbytes
        os.truncate(self.descriptor, self.size)
        self.memory = mmap.mmap(self.descriptor, self.size)
        self.put(BIG)

    def put(self, array):
        self.memory[self.where :] = array.tobytes()

    def read(self):
        return np.frombuffer(self.memory[self.where :], BIG.dtype).reshape(BIG.shape)

    def offer(self, offset=0, descriptor=None):
        numbers = (self.size, self.descriptor if descriptor is None else descriptor, offset)
        self.server.send(frame(MAP, START, body=struct.pack("<3Q", *numbers)))

    def execute(self, number=1):
        """Sends a request with what is in the region; returns the frames up to its answer."""
        self.server.send(frame(EXECUTE, number, block([("IN", BIG, START + self.where)])))
        seen = []
        while not seen or seen[-1][0] not in (EXECUTED, FAILED):
            seen.append(self.server.next())
        return seen


@pytest.fixture
def serve_region(serve):
    def start(source):
        region = Region(serve(MODEL + source))
        region.offer()
        return region

    return start


def kinds(seen):
    return [kind for kind, *_ in seen]


def output(seen):
    return seen[-1][2][0][0]["OUT"]


def test_a_region_is_mapped_and_its_inputs_go_on_by_reference(serve_region):
    region = serve_region("        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', x[10:])])\n")
    seen = region.execute()
    assert seen[0] == (MAPPED, START, 1) and kinds(seen) == [MAPPED, EXECUTED]
    assert output(seen).location == START + region.where + 10 * BIG.itemsize
    assert kinds(region.execute()) == [EXECUTED]


@pytest.mark.parametrize("descriptor, offset", [(1 << 20, 0), (None, PAGE), (None, 1 << 40)])
def test_what_cannot_be_mapped_is_told(serve, descriptor, offset):
    region = Region(serve(MODEL))
    region.offer(offset, descriptor)
    region.server.send(frame(EXECUTE, 1, block([("IN", BIG)])))
    assert region.server.next() == (MAPPED, START, 0)


def test_what_is_written_is_neither_the_clients_nor_of_the_next_request(serve_region):
    region = serve_region("        x += 1\n        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', x)])\n")
    for number in range(3):
        region.put(BIG + number)
        seen = region.execute()
        assert kinds(seen)[-1] == EXECUTED
        assert output(seen).location < START, "the server does not see what was written"
        np.testing.assert_array_equal(output(seen).array(), BIG + number + 1)
        np.testing.assert_array_equal(region.read(), BIG + number)


@pytest.mark.parametrize("form", ["r", "x", "memoryview(x)"])
def test_what_is_kept_does_not_change_with_the_region(serve_region, form):
    source = """
        if not hasattr(self, "kept"):
            self.kept, self.array = %s, x
            return pb_utils.InferenceResponse([])
        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', self.array)])
"""
    region = serve_region(source % form)
    assert kinds(region.execute())[-1] == EXECUTED
    region.put(BIG * 3)
    seen = region.execute()
    assert output(seen).location < START
    np.testing.assert_array_equal(output(seen).array(), BIG)


def test_a_model_that_fails_reads_the_next_input_where_it_is(serve_region):
    source = """
        if x[0] < 0:
            raise ValueError(x)
        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', x)])
"""
    region = serve_region(source)
    for number in range(3):
        region.put(BIG - 1)
        assert kinds(region.execute())[-1] == FAILED
        region.put(BIG + number)
        seen = region.execute()
        assert kinds(seen) == [EXECUTED] and output(seen).location == START + region.where


def test_an_unmapped_region_lives_as_long_as_what_is_kept(serve_region):
    source = """
        if not hasattr(self, "kept"):
            self.kept = x
            return pb_utils.InferenceResponse([])
        return pb_utils.InferenceResponse([pb_utils.Tensor('OUT', self.kept)])
"""
    region = serve_region(source)
    region.execute()
    region.server.send(note(UNMAP, START, 0), note(UNMAP, START, 0))
    found = region.server.execute(2, ("IN", np.zeros(1, BIG.dtype)))
    np.testing.assert_array_equal(found[0]["OUT"].array(), BIG)
