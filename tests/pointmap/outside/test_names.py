"""Names that are made of names of others fit a file system."""

from __future__ import annotations

import pytest

from pointmap.outside.names import MOST_BYTES, shortened


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\u6f22", "\U0001f600", "\udcff"])
def test_long_names_are_cut_between_letters_and_stay_apart(letter: str) -> None:
    names = [shortened(300 * letter), shortened(301 * letter)]
    assert len(set(names)) == 2
    for name in names:
        assert len(name.encode("utf-8")) <= MOST_BYTES
        # Lone surrogates are no text: the digest alone stands for them.
        assert letter == "\udcff" or name.rpartition("_")[0].strip(letter) == ""
    assert shortened("a walk") == "a walk"
