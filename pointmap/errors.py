"""Errors that are the user's to mend, as opposed to bugs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

# So many failures for one reason are each told alone.
_ALONE = 5
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class InputError(Exception):
    """Input that cannot be used. The message is one line: what was got, and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UnusablePicture(Exception):
    """A picture that cannot be read or cannot serve; the message says why, for the user."""


def one_line(message: str) -> str:
    """Return a message with control characters escaped: names in it may come from anywhere."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], message)


def first_line(error: object) -> str:
    """Return the first line of what an error of a library says, for a message of one line."""
    return str(error).strip().partition("\n")[0][:200]


def number_of(count: int, one: str, many: str) -> str:
    """Return a count with the words that go with it: "1 photo is", "3 photos are"."""
    return f"{count} {one if count == 1 else many}"


def told_together(failures: Iterable[tuple[str, str]]) -> Iterator[tuple[list[str], str]]:
    """Yield (names, reason) of (name, reason), each alone, but more than five of one reason
    together: that is one thing to tell.
    """
    by_reason: dict[str, list[str]] = {}
    for name, reason in failures:
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        if len(names) > _ALONE:
            yield names, reason
        else:
            yield from (([name], reason) for name in names)


def some_of(names: Sequence[str]) -> str:
    """Return the first three names, for a message that says how many there are."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
