"""Photos in; cameras, cloud, mesh and viewer out: ``python run_recon.py PHOTOS... --out DIR``."""

import sys

from pointmap.launch import launch


def main() -> int:
    """Run the command and return its exit code."""
    return launch("recon.cli")


if __name__ == "__main__":
    sys.exit(main())
