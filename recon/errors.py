"""Errors that are the user's to mend: the command prints the one line and exits with code 2."""

from pointmap.errors import InputError

__all__ = ["InputError"]
