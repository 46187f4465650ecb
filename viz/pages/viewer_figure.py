"""The figure with the scene to turn: what a page shows of it without its scripts, and the controls
that ``viz/pages/viewer`` brings to life.
"""

from __future__ import annotations

from recon.scene import Scene
from viz.drawing.render import render_scene
from viz.drawing.viewpoint import best_show
from viz.pages.report_photos import picture_tag

VIEWER_SCRIPTS = tuple(
    f"viewer/{name}.js"
    for name in (
        "vectors",
        "viewpoint",
        "decoding",
        "measuring",
        "colouring",
        "cutting",
        "sections",
        "photos",
        "picking",
        "shading",
        "painter",
        "pointing",
        "link",
        "moving",
        "handles",
        "viewer",
    )
)
"""The viewer's files, each after those that it uses."""

_COLOURINGS = {"photo": "Photo", "confidence": "Confidence", "normal": "Normal", "height": "Height"}
# Of the box: the page's axis and its side, see viewer/cutting.js.
_FACES = {
    "Left": "0,0",
    "Right": "0,1",
    "Bottom": "1,0",
    "Top": "1,1",
    "Back": "2,0",
    "Front": "2,1",
}
_SECTIONS = {
    "": "none",
    "floor": "from above",
    "front": "from the front",
    "side": "from the side",
}
_KEYS = (
    "Arrow keys turn, with shift they move; + and - zoom; Home resets. M measures, Enter takes the "
    "point in the middle. C cuts, N and P go to the next and the last photo, space plays them, "
    "F fills the screen, L copies a link."
)


def viewer_figure(scene: Scene) -> str:
    """Return the figure that the ``VIEWER_SCRIPTS`` bring to life; a still picture where they
    cannot.
    """
    poster = render_scene(scene, show=best_show(scene))
    return (
        f"<figure id='viewer'>{_tools(scene)}<div class='stage'>"
        f"{picture_tag(poster, 'The scene from behind the cameras', lazy=False)}"
        "<canvas tabindex='0' role='application' aria-label='The scene in 3D' "
        "aria-describedby='viewer-keys'></canvas><svg aria-hidden='true'></svg>"
        "<div class='colours' hidden><span></span><i></i><span></span></div>"
        "<p class='hint'>Drag to turn · wheel or pinch to zoom · shift-drag or two fingers to "
        "move</p><p class='still'>This browser draws no 3D here (no WebGL 2, or no scripts): the "
        "pictures show the scene.</p></div>"
        f"{_flight(scene)}{_cut()}"
        "<ol class='measured' aria-label='Distances' hidden></ol>"
        "<p class='said' role='status'></p>"
        f"<details class='keys'><summary>Keys</summary><p id='viewer-keys'>{_KEYS}</p></details>"
        "</figure>"
    )


def _tools(scene: Scene) -> str:
    shown = []
    if len(scene.surface.faces):
        shown.append("<button data-show='mesh'>Surface</button>")
    if len(scene.cloud.points):
        shown.append("<button data-show='cloud'>Points</button>")
    shown.append("<button data-show='cameras'>Cameras</button>")
    colourings = "".join(
        f"<option value='{value}'>{says}</option>"
        for value, says in _COLOURINGS.items()
        if value != "confidence" or len(scene.cloud.points)
    )
    return (
        f"<div class='tools' role='group' aria-label='View'>{''.join(shown)}"
        f"<label>Colour <select data-colour>{colourings}</select></label>"
        "<span class='gap'></span><button data-do='measure'>Measure</button>"
        "<button data-do='cut'>Cut</button><button data-do='link'>Copy link</button>"
        "<button data-do='full'>Full screen</button><button data-do='home'>Reset</button></div>"
    )


def _flight(scene: Scene) -> str:
    if not any(view.registered for view in scene.views):
        return ""
    return (
        "<div class='tools' role='group' aria-label='Photos'>"
        "<button data-do='last' aria-label='Photo before'>◀</button>"
        "<button data-do='play'>Play</button>"
        "<button data-do='next' aria-label='Next photo'>▶</button>"
        "<label>Photo over the model <input type='range' data-fade min='0' max='100' value='50'>"
        "</label><span data-name></span></div>"
    )


def _cut() -> str:
    sides = "".join(
        f"<label>{says} <input type='range' data-face='{face}' min='0' max='100' step='0.5'>"
        "</label>"
        for says, face in _FACES.items()
    )
    section = "".join(
        f"<option value='{value}'>{says}</option>" for value, says in _SECTIONS.items()
    )
    return (
        f"<div class='tools cut' role='group' aria-label='Cut' hidden>{sides}"
        f"<label>Section <select data-section>{section}</select></label>"
        "<label>Depth <input type='range' data-depth min='0' max='100' step='0.25'></label>"
        "<button data-do='whole'>Whole scene</button><p data-box></p></div>"
    )
