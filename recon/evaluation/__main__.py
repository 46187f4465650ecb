"""``python -m recon.evaluation``: what :mod:`recon.evaluation.command` says."""

import sys

from pointmap.launch import launch

if __name__ == "__main__":
    sys.exit(launch("recon.evaluation.command"))
