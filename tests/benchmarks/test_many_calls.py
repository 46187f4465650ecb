"""A few of the calls of the benchmark: nothing is held from one to the next."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

from benchmarks.many_calls import calls, tiny_network, tiny_photos
from recon.work.folder import Work


def test_nothing_is_held_from_one_call_to_the_next(tmp_path: Path) -> None:
    logging.getLogger("recon").setLevel(logging.ERROR)
    gc.collect()
    gc.disable()  # what only its rounds would free is held meanwhile
    try:
        after = list(calls(4, tiny_photos(tmp_path), tiny_network(tmp_path)))
        works = sum(type(thing) is Work for thing in gc.get_objects())
    finally:
        gc.enable()
    assert works == 0
    assert len({(held.threads, held.descriptors) for held in after[1:]}) == 1
