"""``python -m viz``: what :mod:`viz.command` says."""

import sys

from pointmap.launch import launch


def main() -> int:
    """Run the command and return its exit code."""
    return launch("viz.command")


if __name__ == "__main__":
    sys.exit(main())
