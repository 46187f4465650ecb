"""``python -m recon.localise``: what :mod:`recon.localise.command` says."""

import sys

from pointmap.launch import launch

if __name__ == "__main__":
    sys.exit(launch("recon.localise.command"))
