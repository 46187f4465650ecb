"""The table of known models, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

from recon.depth_models.table import KNOWN_MODELS
from recon.pretrained.licences import may_be_sold
from recon.pretrained.repository import known_repository

PAGE = Path(__file__).parents[3] / "docs/how-to/depth-models.md"


def test_the_page_has_every_model_as_it_is_here() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for m in KNOWN_MODELS:
        assert f"| `{m.name}` | {m.id} | {m.kind} | {m.millions} | {m.licence} |" in page
    names = [name for m in KNOWN_MODELS for name in (m.name, m.id)]
    assert len(set(names)) == len(names)


def test_models_are_known_by_name_and_by_id() -> None:
    by_name, by_id = (
        known_repository(name, KNOWN_MODELS) for name in ("ZoeDepth", "Intel/zoedepth-nyu-kitti")
    )
    assert by_name is by_id is not None
    assert known_repository("somebody/some-model", KNOWN_MODELS) is None


def test_licences_that_forbid_sale_are_told_from_others() -> None:
    assert [m.name for m in KNOWN_MODELS if not may_be_sold(m.licence)] == [
        "depth-anything-v2-base",
        "depth-anything-v2-large",
        "depth-pro",
    ]
    assert may_be_sold("apache-2.0") and not may_be_sold("cc-by-nc-sa-4.0")
