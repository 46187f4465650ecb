"""Screenshots of the windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_screenshot(picture: NDArray[np.uint8]) -> str:
    """Write ``picture`` (h, w, 3) to the next free ``pointmap-N.png`` of the current folder.

    Returns the line that tells the user; also of a folder that cannot be written, since a window
    should stay open then.
    """
    from PIL import Image

    number = 1
    while (path := Path(f"pointmap-{number}.png")).exists():
        number += 1
    try:
        Image.fromarray(picture).save(path)
    except OSError as error:
        return f"cannot write {path.absolute()}: {error.strerror}"
    return f"wrote {path}"
