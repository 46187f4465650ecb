"""Pages read as a parser does, and a scene that tries to break them."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

from scene_factory import make_scene

from recon.reconstruction import Reconstruction
from recon.scene import PairRecord

NASTY = ("<b>&\"'</script>.jpg", "Küche 日本.jpg", "${x} `y` \\.jpg", "d.jpg")
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Reads a page; keeps its text, its elements' attributes, and checks that elements nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            name = self.elements[-1][1].get("id") or f"{self.open[-1]} {len(self.scripts)}"
            self.scripts[name] = data
        else:
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def hostile_scene(photo_folder: Path) -> Reconstruction:
    """A scene of four photos, one not placed, whose names and messages would break a page."""
    scene = make_scene(photo_folder, names=NASTY, unregistered={"Küche 日本.jpg"})
    pairs = (
        PairRecord(0, 2, 300, 250, "essential", True),
        PairRecord(0, 3, 90, 12, "pnp", False),
    )
    options = {"seed": 3, "network": {"weights": "<none>", "size": 512}}
    warnings = ("<img src=x onerror=alert(1)> is not connected",)
    return dataclasses.replace(scene, pairs=pairs, options=options, warnings=warnings)
