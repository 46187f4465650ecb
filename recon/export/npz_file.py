"""NumPy's archives, compressed as maps of depth need it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

# Of 9. What `numpy.savez_compressed` takes, 6, makes a photo's maps 6 % smaller in three times the
# time: of hundreds of photos that was a good part of all the files'.
_LEVEL = 4


def write_npz(path: Path, **arrays: ArrayLike) -> None:
    """Write ``arrays`` by their names as ``path``, an ``.npz`` that ``numpy.load`` reads."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, array in arrays.items():
            # An array's size is known to nobody beforehand: 64-bit fields hold any.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
