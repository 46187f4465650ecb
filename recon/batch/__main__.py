"""``python -m recon.batch``: what :mod:`recon.batch.command` says."""

import sys

from pointmap.launch import launch

if __name__ == "__main__":
    sys.exit(launch("recon.batch.command"))
