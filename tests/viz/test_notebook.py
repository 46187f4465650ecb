"""What a notebook shows of a reconstruction."""

from __future__ import annotations

import os
import sys
from base64 import b64decode
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene_factory import make_scene

from pointmap.errors import InputError
from recon.export.colour import depth_to_rgb
from recon.scene import Tracks


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


def test_a_notebook_runs_and_keeps_pictures_of_scene_depth_and_pair(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    cells = (
        "from pathlib import Path\n"
        "from scene_factory import make_scene\n"
        "scene = make_scene(Path('.'), names=('a.jpg', 'b.jpg'))\n"
        "scene",
        "scene.views[0]",
        "scene.pair('a.jpg', 'b.jpg')",
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    here = Path(__file__).parents
    code_from = os.pathsep.join([str(here[2]), str(here[1] / "helpers"), *sys.path])
    client = nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}})
    client.execute(env={**os.environ, "PYTHONPATH": code_from})
    shown = [cell.outputs[-1].data for cell in book.cells]
    assert "<canvas" in unescape(shown[0]["text/html"])
    scene = make_scene(tmp_path, names=("a.jpg", "b.jpg"))
    depth, pair = (
        np.asarray(Image.open(BytesIO(b64decode(data["image/png"])))) for data in shown[1:]
    )
    h, w = scene.views[0].depth.shape
    assert depth.shape == (h, 3 * w, 3)
    np.testing.assert_array_equal(depth[:, :w], scene.views[0].pixels)
    np.testing.assert_array_equal(depth[:, w : 2 * w], depth_to_rgb(scene.views[0].depth))
    np.testing.assert_array_equal(pair, scene.pair("a.jpg", "b.jpg").pixels)
    nbformat.validate(book)


def test_a_pair_without_matches_has_a_picture_and_a_name_that_is_none_is_refused(
    tmp_path: Path,
) -> None:
    scene = replace(make_scene(tmp_path), tracks=Tracks.empty())
    assert scene.pair("a.jpg", "b.jpg").matches == 0
    with pytest.raises(InputError, match=r"no photo z\.jpg: it has a\.jpg, b\.jpg"):
        scene.pair("a.jpg", "z.jpg")
