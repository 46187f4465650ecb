"""A few damaged files to every reader, the same ones each time; ``make fuzz`` tries many more."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.readers import READERS, Reader
from tests.fuzz.trial import Trials

INPUTS = 60
# Of a reader whose every input takes a second.
FEW = {"scene used": 20}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_files_are_read_or_refused_in_one_line(reader: Reader, tmp_path: Path) -> None:
    trials = Trials(reader, tmp_path / "files", tmp_path / "faults", seed=1)
    inputs = FEW.get(reader.name, INPUTS)
    for _ in range(inputs):
        trials.once()
    assert trials.outcomes.keys() <= {"accepted", "refused"}, trials.messages
    # Damage that is never noticed, or always, would try nothing.
    assert trials.outcomes["refused"] and trials.outcomes.total() == inputs
