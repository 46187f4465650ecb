"""What comes from outside is read here: regular files, bounded sizes, finite values.

Files of other people and programs may hold anything. Each module reads one kind of thing and raises
``OSError`` or ``ValueError`` for what is no such thing, never anything else; whoever knows what the
file is for turns that into an :class:`pointmap.errors.InputError` with the remedy.
"""
