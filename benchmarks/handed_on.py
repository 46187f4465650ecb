"""Command lines of benchmarks, with options after ``--`` that go on to run_recon.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Return what the parser makes of the arguments before ``--``, and the options after it."""
    parser.epilog = "Arguments after -- are handed to run_recon.py."
    arguments = list(arguments)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    return parser.parse_args(arguments[:split]), arguments[split + 1 :]
