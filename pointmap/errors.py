"""Errors that are the user's to mend, as opposed to bugs."""


class InputError(Exception):
    """Input that cannot be used. The message is one line: what was got, and the remedy."""
