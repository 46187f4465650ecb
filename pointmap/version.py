"""``--version``, the same for every command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pointmap

VERSION_LINE = f"pointmap {pointmap.__version__}"


def answer_version(arguments: Sequence[str] | None) -> None:
    """Print the version and exit with 0 if ``--version`` is the only argument.

    ``arguments``: those of the process by default. For commands whose parser knows no such option
    (tyro's); argparse has an action for it.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        sys.stdout.write(f"{VERSION_LINE}\n")
        raise SystemExit(0)
