"""Docstrings as Markdown: :func:`x` links to x where that is documented, and is code elsewhere."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(
    r":(?:func|class|mod|meth|data|attr|exc):`(?P<name>[\w.]+)`"
    r"|(?P<code>``.+?``)"
    r"|(?P<formula>\]\()",  # g[f](x, y) is no link
    flags=re.DOTALL,
)


class DocstringRoles(griffe.Extension):
    """Replaces roles once a package is read, when names can be looked up."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Replace the roles in every docstring of the package."""
        replace_roles(pkg)


def replace_roles(owner: griffe.Object) -> None:
    """Replace the roles in the docstrings of ``owner`` and of what it holds."""
    if owner.docstring is not None:
        owner.docstring.value = ROLE.sub(
            lambda match: markdown(match, owner), owner.docstring.value
        )
    for member in owner.members.values():
        if isinstance(member, griffe.Object):
            replace_roles(member)


def markdown(match: re.Match[str], owner: griffe.Object) -> str:
    """Return a link that autorefs resolves, or leaves as code where nothing is documented."""
    if match["code"]:
        return match["code"]
    if match["formula"]:
        return r"]\("
    name = match["name"]
    try:
        target = owner.resolve(name)
    except griffe.NameResolutionError:
        target = name
    return f'<autoref optional identifier="{target}"><code>{name}</code></autoref>'
