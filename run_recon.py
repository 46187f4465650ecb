"""Photos in; cameras, cloud, mesh and viewer out: ``python run_recon.py PHOTOS... --out DIR``."""

import sys


def main() -> int:
    """Run the command; an interrupt while its modules are still being imported is one line, too."""
    try:
        from recon.cli import main as command
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was written\n")
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
