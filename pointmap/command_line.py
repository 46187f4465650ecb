"""Command lines that tyro makes of dataclasses and functions, with help that reads as prose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import docstring_parser
import tyro

T = TypeVar("T")


def read_arguments(
    command: Callable[..., T],
    arguments: Sequence[str] | None,
    prog: str | None = None,
    *,
    default: T | None = None,
) -> T:
    """Return what ``arguments`` (``sys.argv`` by default) make of a dataclass, or what a function
    returns when it is called with them; prints the help or what is wrong and exits as tyro does.

    ``default``: values of options that are not given, by default the dataclass's own.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    with _joined_lines():
        return tyro.cli(command, prog=prog, args=arguments, **given)


def run_subcommand(
    commands: Mapping[str, Callable[..., None]], arguments: Sequence[str] | None, prog: str
) -> None:
    """Call the function that the first of ``arguments`` names with the rest of them."""
    with _joined_lines():
        tyro.extras.subcommand_cli_from_dict(dict(commands), prog=prog, args=arguments)


@contextmanager
def _joined_lines() -> Iterator[None]:
    """Have tyro take the description of an option for one paragraph.

    It keeps a line break before a line that is indented, as all but the first of ours are, so that
    lines of the source end in the middle of those of the help.
    """
    with ExitStack() as stack:
        # The first is called for classes, the second for functions.
        for name in ("parse_from_object", "parse"):
            parse = getattr(docstring_parser, name)
            setattr(docstring_parser, name, _joining(parse))
            stack.callback(setattr, docstring_parser, name, parse)
        yield


def _joining(
    parse: Callable[..., docstring_parser.Docstring],
) -> Callable[..., docstring_parser.Docstring]:
    def joined(*arguments: Any, **options: Any) -> docstring_parser.Docstring:
        found = parse(*arguments, **options)
        for option in found.params:
            option.description = option.description and " ".join(option.description.split())
        return found

    return joined
