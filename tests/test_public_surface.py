"""What outside code may use is frozen: a change of it is a decision, made in public_surface.json.

``python tests/test_public_surface.py`` writes that file anew.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("pointmap", "recon", "viz")
RECORD = Path(__file__).with_name("public_surface.json")


def surface(package: str) -> dict[str, Any]:
    """Each public name of a package with its signature, and a class's own public members."""
    module = importlib.import_module(package)
    return {name: described(getattr(module, name)) for name in sorted(module.__all__)}


def described(thing: object) -> Any:
    if not callable(thing):
        return type(thing).__name__
    if not inspect.isclass(thing):
        # A default that is a function is written with its address.
        return re.sub(r"<function (\w+) at 0x\w+>", r"\1", str(inspect.signature(thing)))
    if issubclass(thing, Exception):
        return "exception"
    members = {
        name: str(inspect.signature(member)) if inspect.isfunction(member) else "property"
        for name, member in vars(thing).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }
    fields = {field.name: str(field.type) for field in dataclasses.fields(thing)}  # type: ignore[arg-type]
    return {"fields": fields, "members": members}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_surface_is_the_recorded_one(package: str) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert surface(package) == recorded[package], (
        "if that is meant, record it: python tests/test_public_surface.py, and say so in CHANGELOG"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = importlib.import_module(package).nothing


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    found = {package: surface(package) for package in PACKAGES}
    RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
