"""``python -m pointmap.training``: what :mod:`pointmap.training.command` says."""

import sys

from pointmap.launch import launch

if __name__ == "__main__":
    sys.exit(launch("pointmap.training.command"))
