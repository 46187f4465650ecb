"""Names that are made of names of others fit a file system."""

from __future__ import annotations

import pytest

from pointmap.outside.names import MOST_BYTES, shortened


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\u6f22", "\U0001f600", "\udcff"])
def test_long_names_are_cut_between_letters(letter: str) -> None:
    cut = shortened(300 * letter)
    size = len(letter.encode("utf-8", errors="surrogatepass"))
    assert cut == letter * (MOST_BYTES // size)
    assert shortened("a walk") == "a walk"
