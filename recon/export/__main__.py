"""``python -m recon.export``: what :mod:`recon.export.command` says."""

import sys

from pointmap.launch import launch

if __name__ == "__main__":
    sys.exit(launch("recon.export.command"))
