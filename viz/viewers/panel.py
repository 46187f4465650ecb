"""The window with a side panel: what to show, how to colour it, and the list of photos.

Drawn by Open3D's Filament, which needs a graphics driver of the newer kind (Vulkan on Linux) and
aborts the process where there is none: ask :func:`panel_works` first.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recon.scene import Scene
from viz.drawing.colouring import COLOURINGS, Colouring, coloured_surface, confident_cloud
from viz.drawing.render import (
    BACKGROUND,
    camera_outlines,
    cloud_geometry,
    mesh_geometry,
    outline_geometry,
    point_size_px,
)
from viz.drawing.viewpoint import (
    Viewpoint,
    automatic_viewpoint,
    best_show,
    frustum_depth,
    frustum_vertices,
    photo_viewpoint,
    pointed_at,
    registered_cameras,
    scene_frame,
)
from viz.viewers.open3d_pieces import drawn_as_is, image, material, photo_quad, thumbnail
from viz.viewers.screenshot import write_screenshot

if TYPE_CHECKING:
    import open3d as o3d

logger = logging.getLogger(__name__)

WIDTH, HEIGHT = 1280, 800  # fits a laptop's screen
_HELP = (
    "drag: turn, ctrl+drag: move, wheel: zoom; click a camera or its name to see what it saw; "
    "close the window or press Ctrl-C to end"
)
"""One line on how to use the window."""

_PANEL_EM = 17  # width of the panel in letters
_CLICK_PX = 4  # a press that moves less is a click
_DRIVER_SECONDS = 30.0  # that it may take to answer
_ASK = "import open3d as o; o.visualization.rendering.OffscreenRenderer(16, 16)"


def panel_works() -> bool:
    """Return whether this window can be drawn well here.

    Mesa's software Vulkan does not count: scenes of full size keep it busy for minutes or for ever.
    """
    if sys.platform != "linux":
        return True
    said = ask_driver()
    return said is not None and "software device" not in said


def ask_driver() -> str | None:
    """Return what Open3D says of the graphics driver; None where it cannot draw this window.

    Asked in a process of its own: without a driver Open3D ends the process that asks.
    """
    command = [sys.executable, "-c", _ASK]
    try:
        child = subprocess.run(command, timeout=_DRIVER_SECONDS, capture_output=True, text=True)
    except (subprocess.TimeoutExpired, OSError):
        return None
    return child.stdout + child.stderr if child.returncode == 0 else None


def run_panel(scene: Scene, *, each_frame: Callable[[PanelWindow], None] | None = None) -> None:
    """Show the window until it is closed. ``each_frame`` is called between two drawn frames.

    Open3D's application starts once per process: so does this.
    """
    from open3d.visualization import gui

    application = gui.Application.instance
    application.initialize()
    window = PanelWindow(scene, application)
    logger.info("%s", _HELP)
    try:
        # Not application.run(): that holds the interpreter, and with it Ctrl-C, until it ends.
        while application.run_one_tick():
            if each_frame is not None:
                each_frame(window)
            time.sleep(1 / 120)
    except BaseException:
        window.close()
        while application.run_one_tick():
            pass
        raise


class PanelWindow:
    """Cloud, mesh and cameras with their photos, switched and coloured from a panel."""

    def __init__(self, scene: Scene, application: Any) -> None:
        from open3d.visualization import gui, rendering

        self.scene = scene
        self.colouring: Colouring = "photo"
        self.least_confidence = 0.0
        self.point_size = point_size_px(len(scene.cloud.points), WIDTH, HEIGHT)
        first = best_show(scene)
        self.shown = {"mesh": first == "mesh", "cloud": first == "cloud", "cameras": True}
        self.home = automatic_viewpoint(scene, aspect=WIDTH / HEIGHT)
        self.cameras = registered_cameras(scene)
        self.outlines = camera_outlines(scene)
        self._pressed: tuple[int, int] | None = None

        self.window = application.create_window("pointmap", WIDTH, HEIGHT)
        self.widget = gui.SceneWidget()
        self.widget.scene = rendering.Open3DScene(self.window.renderer)
        self.widget.scene.set_background([*drawn_as_is(np.array(BACKGROUND)), 1.0])
        # Tone mapping would grey the photos' colours, and they hold the light of the scene.
        self.widget.scene.view.set_post_processing(False)
        self.widget.scene.scene.enable_sun_light(False)
        self.widget.scene.scene.enable_indirect_light(False)
        self.widget.set_on_mouse(self._on_mouse)
        self._panel = self._build_panel()
        self.window.add_child(self.widget)
        self.window.add_child(self._panel)
        self.window.set_on_layout(self._layout)
        for part in self.shown:
            self._draw_part(part)
        self.look_from(self.home)

    # What the panel's controls do

    def toggle(self, part: str, on: bool) -> None:
        """Show or hide "mesh", "cloud" or "cameras"."""
        self.shown[part] = on
        for name in self._names(part):
            self.widget.scene.show_geometry(name, on)
        self._redraw()

    def colour_by(self, colouring: Colouring) -> None:
        """Colour surface and points by ``colouring``."""
        self.colouring = colouring
        self._draw_part("mesh")
        self._draw_part("cloud")

    def filter_by(self, least_confidence: float) -> None:
        """Hide the points whose confidence lies below ``least_confidence``."""
        self.least_confidence = least_confidence
        self._draw_part("cloud")

    def resize_points(self, size_px: float) -> None:
        """Draw points ``size_px`` wide."""
        self.point_size = size_px
        self._draw_part("cloud")

    def look_from(self, view: Viewpoint) -> None:
        """Look along ``view``; turning then goes around its target."""
        bounds = self._bounds()
        self.widget.setup_camera(view.field_of_view_deg, bounds, bounds.get_center())
        self.widget.look_at(*(v.astype(np.float32) for v in (view.target, view.eye, view.up)))
        self.widget.center_of_rotation = view.target.astype(np.float32)
        self._redraw()

    def see_home(self) -> None:
        """Look at the whole scene."""
        self._show_photos()
        self.look_from(self.home)

    def see_photo(self, index: int) -> None:
        """Look from where photo ``index`` was taken, and show the photo in the panel."""
        frame = self.widget.frame
        view = photo_viewpoint(self.scene, index, aspect=frame.width / frame.height)
        self._show_photos(without=index)
        self.preview.update_image(image(thumbnail(self.scene, index)))
        self.look_from(view)

    def save_screenshot(self) -> None:
        """Write what is seen to the next free ``pointmap-N.png`` of the current folder."""

        def write(picture: NDArray[np.uint8]) -> None:
            self._note.text = write_screenshot(picture)

        self.capture(write)

    def capture(self, take: Callable[[NDArray[np.uint8]], None]) -> None:
        """Have ``take`` called with the next drawn picture (h, w, 3)."""
        self.widget.scene.scene.render_to_image(lambda image: take(np.asarray(image).copy()))
        self._redraw()

    def camera_at(self, x: float, y: float) -> int | None:
        """Return the photo whose camera is drawn at (x, y) of the scene's picture."""
        frame = self.widget.frame
        camera = self.widget.scene.camera
        clip = np.asarray(camera.get_projection_matrix()) @ np.asarray(camera.get_view_matrix())
        share = np.array([x / frame.width, y / frame.height])
        hit = pointed_at([o.vertices for o in self.outlines], clip.astype(np.float64), share)
        return None if hit is None else self.cameras[hit][0]

    def _redraw(self) -> None:
        self.widget.force_redraw()
        self.window.post_redraw()

    def close(self) -> None:
        """Close the window."""
        self.window.close()

    # The panel

    def _build_panel(self) -> Any:
        from open3d.visualization import gui

        em = self.window.theme.font_size
        panel = gui.Vert(0.5 * em, gui.Margins(em, em, em, em))
        titles = {"mesh": "Surface", "cloud": "Points", "cameras": "Cameras"}
        for part, title in titles.items():
            box = gui.Checkbox(title)
            box.checked = self.shown[part]
            box.set_on_checked(partial(self.toggle, part))
            panel.add_child(box)
        colours = gui.Combobox()
        for colouring in COLOURINGS:
            colours.add_item(colouring)
        colours.set_on_selection_changed(lambda _, k: self.colour_by(COLOURINGS[int(k)]))
        self._labelled(panel, "Colour", colours)
        self._labelled(panel, "Least confidence of points", self._slider(0, 1, 0, self.filter_by))
        size = self._slider(1, 12, self.point_size, self.resize_points)
        self._labelled(panel, "Point size", size)
        for title, action in (("Whole scene", self.see_home), ("Screenshot", self.save_screenshot)):
            button = gui.Button(title)
            button.set_on_clicked(action)
            panel.add_child(button)
        self.preview = gui.ImageWidget(image(thumbnail(self.scene, 0)))
        photos = gui.ListView()
        photos.set_items([f"{k + 1} {self.scene.views[k].name}" for k, _, _ in self.cameras])
        photos.set_on_selection_changed(
            lambda _, __: self.see_photo(self.cameras[photos.selected_index][0])
        )
        self._labelled(panel, "Seen from", photos)
        panel.add_child(self.preview)
        self._note = gui.Label("")
        panel.add_child(self._note)
        return panel

    def _labelled(self, panel: Any, text: str, control: Any) -> None:
        from open3d.visualization import gui

        panel.add_child(gui.Label(text))
        panel.add_child(control)

    def _slider(self, low: float, high: float, value: float, act: Callable[[float], None]) -> Any:
        from open3d.visualization import gui

        slider = gui.Slider(gui.Slider.DOUBLE)
        slider.set_limits(low, high)
        slider.double_value = value
        slider.set_on_value_changed(lambda value: act(float(value)))
        return slider

    def _layout(self, _: Any) -> None:
        from open3d.visualization import gui

        room, side = self.window.content_rect, _PANEL_EM * self.window.theme.font_size
        left = max(1, room.width - side)
        self.widget.frame = gui.Rect(room.x, room.y, left, room.height)
        self._panel.frame = gui.Rect(room.x + left, room.y, side, room.height)

    def _on_mouse(self, event: Any) -> Any:
        from open3d.visualization import gui

        at = (event.x - self.widget.frame.x, event.y - self.widget.frame.y)
        if event.type == gui.MouseEvent.Type.BUTTON_DOWN:
            self._pressed = at
        elif event.type == gui.MouseEvent.Type.BUTTON_UP and self._pressed is not None:
            moved = np.hypot(at[0] - self._pressed[0], at[1] - self._pressed[1])
            hit = self.camera_at(*at) if moved < _CLICK_PX and self.shown["cameras"] else None
            self._pressed = None
            if hit is not None:
                self.see_photo(hit)
        return gui.Widget.EventCallbackResult.IGNORED

    # The scene

    def _names(self, part: str) -> list[str]:
        names = [part]
        if part == "cameras":
            names += [_photo_name(index) for index, _, _ in self.cameras]
        return [name for name in names if self.widget.scene.has_geometry(name)]

    def _bounds(self) -> o3d.geometry.AxisAlignedBoundingBox:
        """Return the box that sets the depth range: the scene and its cameras, without strays."""
        import open3d as o3d

        frame = scene_frame(self.scene)
        corners = [frame.centre - 4 * frame.radius, frame.centre + 4 * frame.radius]
        places = np.array([*corners, *(pose[:3, 3] for _, _, pose in self.cameras)])
        return o3d.geometry.AxisAlignedBoundingBox(places.min(axis=0), places.max(axis=0))

    def _draw_part(self, part: str) -> None:
        """Add a part to the scene, in place of how it was drawn before."""
        scene = self.widget.scene
        for name in self._names(part):
            scene.remove_geometry(name)
        if part == "mesh" and len(self.scene.surface.faces):
            scene.add_geometry("mesh", self._mesh(), material("defaultUnlit"))
        if part == "cloud":
            cloud = confident_cloud(self.scene, self.colouring, self.least_confidence)
            if len(cloud.points):
                made = material("defaultUnlit")
                made.point_size = self.point_size * self.window.scaling
                scene.add_geometry("cloud", cloud_geometry(cloud), made)
        if part == "cameras" and self.outlines:
            made = material("unlitLine")
            made.line_width = 2.0 * self.window.scaling
            scene.add_geometry("cameras", outline_geometry(self.outlines), made)
            for index, _, _ in self.cameras:
                self._add_photo(index)
        self.toggle(part, self.shown[part])

    def _mesh(self) -> o3d.geometry.TriangleMesh:
        return mesh_geometry(coloured_surface(self.scene, self.colouring), eye=self.home.eye)

    def _add_photo(self, index: int) -> None:
        """Add the photo to the front of its camera."""
        view = self.scene.views[index]
        assert view.camera.cam_to_world is not None
        depth = frustum_depth(self.scene)
        corners = frustum_vertices(view.camera, view.camera.cam_to_world, depth)[1:]
        made = material("defaultUnlit")
        levels = drawn_as_is(thumbnail(self.scene, index))
        made.albedo_img = image(np.rint(255 * levels).astype(np.uint8))
        self.widget.scene.add_geometry(_photo_name(index), photo_quad(corners), made)

    def _show_photos(self, *, without: int | None = None) -> None:
        """Show the cameras' photos; not that of camera ``without``, which would hide its view."""
        for index, _, _ in self.cameras:
            self.widget.scene.show_geometry(
                _photo_name(index), self.shown["cameras"] and index != without
            )


def _photo_name(index: int) -> str:
    return f"photo {index}"
