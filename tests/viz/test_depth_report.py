"""The one page of a folder of photos."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from scene_factory import make_scene

from viz.pages.depth_report import depth_card, write_depth_report


def test_links_lead_to_folders_of_any_name(tmp_path: Path) -> None:
    # A name that is no UTF-8 arrives with lone surrogates.
    card = depth_card(make_scene(tmp_path, names=("a.jpg",)), "\udcff 'a'")
    written = StringIO()
    write_depth_report(written, StringIO(card), 1, ["a.jpg: <b>"])
    page = written.getvalue()
    assert "href='%FF%20%27a%27/scene.glb'" in page and "<b>" not in page
