"""A few of the calls of the benchmark: nothing is held from one to the next."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import pytest

from benchmarks.many_calls import calls, tiny_network, tiny_photos
from recon.work.folder import Work


def works() -> int:
    return sum(type(thing) is Work for thing in gc.get_objects())


def test_nothing_is_held_from_one_call_to_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "recon")
    gc.collect()
    before = works()  # what other tests of this process hold
    gc.disable()  # what only its rounds would free is held meanwhile
    try:
        after = list(calls(4, tiny_photos(tmp_path), tiny_network(tmp_path)))
        assert works() == before
    finally:
        gc.enable()
    assert len({(held.threads, held.descriptors) for held in after[1:]}) == 1
