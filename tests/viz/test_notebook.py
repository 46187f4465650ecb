"""What a notebook shows of a reconstruction."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from scene_factory import make_scene


class Frames(HTMLParser):
    """The tags outside frames, and each frame's attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.frames: list[dict[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "iframe":
            self.frames.append(dict(attrs))


def test_a_cell_shows_a_table_and_the_scene_in_a_frame_of_its_own(tmp_path: Path) -> None:
    scene = make_scene(
        tmp_path, names=("a.jpg", "<script>'\".jpg", "c.jpg"), unregistered=["c.jpg"]
    )
    html = scene._repr_html_()
    found = Frames(html)
    assert "2 of 3" in html and f"{len(scene.surface.faces):,}" in html
    # Nothing of the page, nor of a photo's name, gets out of the frame.
    assert set(found.tags) == {"table", "tr", "th", "td", "iframe"}
    (frame,) = found.frames
    assert frame["sandbox"] == "allow-scripts"
    page = frame["srcdoc"] or ""
    assert page.startswith("<!") and "<canvas" in page and "<script>'" not in page
    assert len(html) < 4_000_000


def test_nothing_to_turn_is_a_table_alone(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    lost = tuple(
        replace(view, camera=replace(view.camera, cam_to_world=None)) for view in scene.views
    )
    assert "iframe" not in replace(scene, views=lost)._repr_html_()
