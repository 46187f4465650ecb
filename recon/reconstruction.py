"""What a run returns: a scene that can write itself to a folder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from recon.export.options import ExportOptions
from recon.save import save_scene
from recon.scene import Scene

if TYPE_CHECKING:
    from viz.pages.match_pictures import PairPicture


@dataclass(frozen=True)
class Reconstruction(Scene):
    """A :class:`recon.scene.Scene` with the way to its files."""

    @classmethod
    def of(cls, scene: Scene) -> Reconstruction:
        """Return the same scene as a reconstruction."""
        return cls(**{field.name: getattr(scene, field.name) for field in fields(Scene)})

    def _repr_html_(self) -> str:
        # A notebook shows this where the reconstruction ends a cell. viz depends on recon, not the
        # other way: it is imported where it is called.
        from viz.pages.notebook import notebook_html

        return notebook_html(self)

    def pair(self, first: str, second: str) -> PairPicture:
        """Return a picture of two photos, by name, with the places that both of them hold joined
        by lines; a notebook shows it where it ends a cell.

        Raises ``pointmap.errors.InputError`` for a name that the scene does not have.
        """
        from viz.pages.match_pictures import pair_picture

        return pair_picture(self, first, second)

    def save(
        self, folder: str | Path, *, overwrite: bool = False, export: ExportOptions | None = None
    ) -> Path:
        """Write the whole output contract to ``folder``, and what else ``export`` names; return it.

        Raises ``pointmap.errors.InputError`` as :func:`recon.save.save_scene` does.
        """
        return save_scene(self, folder, overwrite=overwrite, export=export)
