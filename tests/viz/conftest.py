import pytest
from viz_scenes import dense_scene

from recon.reconstruction import Reconstruction


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    return dense_scene(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
