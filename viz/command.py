"""``python -m viz SCENE_DIR``: open a saved scene in a window, or draw a picture of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from pointmap.command_line import read_arguments
from pointmap.commands import run_command
from pointmap.errors import InputError
from pointmap.version import answer_version
from recon.scene import Scene
from viz.effects.write_effect import EffectOptions
from viz.paths import Film
from viz.viewers.browser_guard import DEFAULT_PORT

logger = logging.getLogger(__name__)


def view(
    scene: Annotated[Path, tyro.conf.Positional],
    *,
    save: Path | None = None,
    film: Film = "flight",
    browser: bool = False,
    port: int = DEFAULT_PORT,
    effect: Annotated[EffectOptions, tyro.conf.OmitArgPrefixes] = EffectOptions(),  # noqa: B008
) -> None:
    """Open a scene that run_recon.py saved: cloud, mesh and cameras in a window to turn.

    Without a display, a picture is written into the scene's folder instead.

    Args:
        scene: The scene's folder (the --out of run_recon.py).
        save: Write to this file and open no window: a picture (.png, .jpg), a page that
            shows the scene in any browser without a network (.html), a film (.mp4, .webm).
        film: Which way a film goes: flight (smoothly past the photos' places, through no wall),
            turntable (about the scene), photos (from one to the next, each fading in over the
            scene).
        browser: Show the scene in a browser instead: serves it on this machine until Ctrl-C.
        port: Port of the browser viewer; the next free one where it is taken.
        effect: A photo with an effect of its depth, written to --save.
    """
    from recon.export.load import load_scene
    from recon.export.ownership import VIEWER_PICTURE
    from viz.video import ENDINGS
    from viz.viewers.browser import browse
    from viz.viewers.window import show

    if browser and save is not None:
        raise InputError("--browser serves the scene, --save writes a file: leave out one of them")
    if film != "flight" and (save is None or save.suffix.lower() not in ENDINGS):
        raise InputError(f"--film {film} is the way of a film: name it with --save film.mp4")
    loaded = load_scene(scene)
    if save is not None:
        _check_target(save, scene, loaded)
    if effect.effect is not None:
        if save is None:
            raise InputError(f"--effect {effect.effect} writes a file: name it with --save")
        from viz.effects.write_effect import write_effect

        logger.info("wrote %s", write_effect(loaded, effect, save))
    elif save is not None:
        logger.info("wrote %s", _save(loaded, save, film))
    elif browser:
        browse(loaded, port=port)
    else:
        show(loaded, picture=scene / VIEWER_PICTURE)


def _check_target(path: Path, folder: Path, scene: Scene) -> None:
    """Raise ``InputError`` where a file would take the place of a photo or a file of the scene."""
    from pointmap.saved_scene import listed_files

    real = path.resolve()
    files = [folder / name for name in listed_files(folder)]
    if any(real == file.resolve() for file in (*files, *(view.path for view in scene.views))):
        raise InputError(f"--save {path} would replace a file of the scene: choose another name")


def _save(scene: Scene, path: Path, film: Film) -> Path:
    """Write what the ending of ``path`` asks for. Raises InputError when that cannot be."""
    from viz.pages.scene_page import write_scene_page
    from viz.video import ENDINGS
    from viz.viewers.window import save_picture

    ending = path.suffix.lower()
    if ending in ENDINGS:
        return _save_video(scene, path, film)
    if ending not in (".html", ".htm"):
        return save_picture(scene, path)
    try:
        return write_scene_page(scene, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _save_video(scene: Scene, path: Path, film: Film) -> Path:
    from rich.console import Console
    from rich.progress import Progress

    from viz.video import write_video

    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task("Drawing the film", total=None)
        return write_video(
            scene,
            path,
            film=film,
            advance=lambda done, total: bars.update(bar, completed=done, total=total),
        )


def main(argv: Sequence[str] | None = None, prog: str = "python -m viz") -> int:
    """Run the command with ``argv`` (default: the process's own); return the exit code.

    0; 2 after one line on stderr when the scene cannot be used; 128 + signal number: interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    answer_version(argv)

    def run() -> int:
        read_arguments(view, argv, prog)
        return 0

    return run_command(run)
