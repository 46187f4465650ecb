"""``cameras.tum``: the cameras as a trajectory, one line per placed photo.

Format: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats (timestamp tx ty tz qx qy qz
qw, camera to world, axes as OpenCV's), read by evo and other trajectory tools.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recon.scene import Scene


def write_tum(path: Path, scene: Scene) -> None:
    """Write the placed photos; photos have no time, so that their position stands for seconds."""
    from scipy.spatial.transform import Rotation

    lines = ["# timestamp (number of the photo) tx ty tz qx qy qz qw"]
    for number, view in enumerate(scene.views):
        pose = view.camera.cam_to_world
        if pose is None:
            continue
        quat_xyzw = Rotation.from_matrix(pose[:3, :3]).as_quat()
        numbers = np.concatenate([pose[:3, 3], quat_xyzw]).tolist()
        lines.append(" ".join([f"{number}.0", *map(repr, numbers)]))
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
