import sys
import types

import pytest


@pytest.fixture
def light_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-line report: the page itself is viz's subject and takes its time."""
    stub = types.ModuleType("viz.pages.report")
    stub.write_report = lambda _, path: path.write_text("<html></html>")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "viz.pages.report", stub)
