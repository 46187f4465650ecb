"""Imports run one way, everywhere: at import time, inside functions and for types alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top: a module may import its own layer and those below. The commands, and what writes a
# whole scene folder, call the viewers; nothing else in recon knows of them.
LAYERS = (
    (
        "run_recon",
        "recon.batch",
        "recon.cli",
        "recon.evaluation",
        "recon.single_photos.save_each",
        "recon.pipeline",
        "recon.reconstruction",
        "recon.save",
    ),
    ("viz",),
    ("recon",),
    ("pointmap",),
)


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """The project's modules that each of them imports, wherever the import stands."""
    files = {
        module_of(path): path
        for package in ("pointmap", "recon", "viz")
        for path in (ROOT / package).rglob("*.py")
    }
    files["run_recon"] = ROOT / "run_recon.py"
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} imports by a relative name"
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found.add(inner if inner in files else str(node.module))
        graph[module] = (found & files.keys()) - {module}
    return graph


def layer_of(module: str) -> int:
    names = [(len(name), layer) for layer, names in enumerate(LAYERS) for name in names
             if module == name or module.startswith(f"{name}.")]  # fmt: skip
    return max(names)[1]


def test_no_module_imports_a_layer_above_its_own(imports: dict[str, set[str]]) -> None:
    wrong = [
        f"{module} -> {imported}"
        for module, found in imports.items()
        for imported in found
        # Whoever imports recon as such means what it offers, not how that is made.
        if layer_of(imported) < layer_of(module) and module != "recon"
    ]
    assert not wrong


def test_no_imports_form_a_circle(imports: dict[str, set[str]]) -> None:
    left = {module: set(found) for module, found in imports.items()}
    while leaves := [module for module, found in left.items() if not found & left.keys()]:
        for module in leaves:
            del left[module]
    # What remains imports itself by way of others, or imports such modules.
    assert not left, sorted(left)
