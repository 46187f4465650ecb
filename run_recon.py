"""Photos in; cameras, cloud, mesh and viewer out: ``python run_recon.py PHOTOS... --out DIR``."""

import sys

from recon.cli import main

if __name__ == "__main__":
    sys.exit(main())
