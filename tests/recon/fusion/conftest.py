import pytest
from synthetic import Shot, shoot


@pytest.fixture(scope="session")
def shots() -> list[Shot]:
    return shoot(8, width=192, height=144, wavelength=1.0)
