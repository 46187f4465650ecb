"""The scene in a browser, served by viser: the same content as the window, for any machine.

Whoever is given the address sees the scene, nobody else: the photos are the user's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from typing import Any

import numpy as np

from recon.export.colour import camera_colours
from recon.export.glb import mesh_glb
from recon.scene import Scene
from viz.drawing.colouring import COLOURINGS, Colouring, coloured_surface, confident_cloud
from viz.drawing.render import BACKGROUND
from viz.drawing.viewpoint import (
    Viewpoint,
    automatic_viewpoint,
    best_show,
    frustum_depth,
    photo_viewpoint,
    registered_cameras,
    scene_frame,
)
from viz.pages.report_photos import shrunk
from viz.viewers.browser_guard import DEFAULT_PORT, guarded_server

logger = logging.getLogger(__name__)


_THUMBNAIL = 256  # long side of the photo in a camera's outline, pixels


def browse(scene: Scene, *, port: int = DEFAULT_PORT) -> None:
    """Serve the scene on this machine until Ctrl-C; the address to open is logged.

    ``port`` (1 to 65535) is the first one tried, the next free one is taken. Pillow reads no EPS in
    this process from then on. Raises ``InputError`` when a fitting viser is not installed or no
    port can be had.
    """
    browser = BrowserView(scene, port=port)
    try:
        logger.info("the scene is at %s ; Ctrl-C ends", browser.address)
        threading.Event().wait()
    except KeyboardInterrupt:
        logger.info("closed")
    finally:
        browser.stop()


class BrowserView:
    """A running server with the scene: cloud, mesh, cameras with their photos, and controls.

    ``address`` is where it is seen, and only there: the address is the key.
    """

    def __init__(self, scene: Scene, *, port: int) -> None:
        self.scene = scene
        self.colouring: Colouring = "photo"
        self.least_confidence = 0.0
        self._cameras = registered_cameras(scene)
        self._frame = scene_frame(scene)
        self._home = automatic_viewpoint(scene, aspect=1.6)
        self._server, self.address = guarded_server(port)
        drawn = self._server.scene
        drawn.set_up_direction(tuple(-self._frame.axes[:, 1]))
        drawn.world_axes.visible = False
        drawn.set_background_image(np.full((4, 4, 3), BACKGROUND, np.uint8), format="png")
        first = best_show(scene)
        self._shown = {"mesh": first == "mesh", "cloud": first == "cloud", "cameras": True}
        self._point_size = self._dot_size()
        self._parts: dict[str, list[Any]] = {"mesh": [], "cloud": [], "cameras": []}
        for part in self._parts:
            self._draw(part)
        self._add_controls()
        self._server.on_client_connect(lambda client: self._look_from(client, self._home))

    def stop(self) -> None:
        """End the server and free its port."""
        # viser notes the end on the screen.
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def _draw(self, part: str) -> None:
        """Add a part to the scene, in place of how it was drawn before."""
        for handle in self._parts[part]:
            handle.remove()
        draw = {"mesh": self._mesh, "cloud": self._cloud, "cameras": self._frusta}
        self._parts[part] = draw[part]()
        for handle in self._parts[part]:
            handle.visible = self._shown[part]

    def _mesh(self) -> list[Any]:
        if len(self.scene.surface.faces) == 0:
            return []
        coloured = coloured_surface(self.scene, self.colouring)
        # Not viser's own mesh: that is lit, and the photos' colours hold the light of the scene.
        return [self._server.scene.add_glb("/mesh", mesh_glb(coloured), cast_shadow=False)]

    def _cloud(self) -> list[Any]:
        cloud = confident_cloud(self.scene, self.colouring, self.least_confidence)
        if len(cloud.points) == 0:
            return []
        # Half precision, viser's default, is too coarse far from the origin.
        handle = self._server.scene.add_point_cloud(
            "/cloud",
            cloud.points,
            cloud.colours,
            point_size=self._point_size,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
        )
        return [handle]

    def _frusta(self) -> list[Any]:
        import viser.transforms

        depth = frustum_depth(self.scene)
        colours = camera_colours(len(self.scene.views))
        handles = []
        for index, camera, pose in self._cameras:
            half_height = camera.height / 2 / camera.intrinsics[1, 1]
            aspect = camera.width / camera.height
            handle = self._server.scene.add_camera_frustum(
                f"/cameras/{index}",
                fov=float(2 * np.arctan(half_height)),
                aspect=aspect,
                # viser's scale is that of the frustum's volume, not of its depth.
                scale=float(depth * np.cbrt(half_height**2 * aspect / 3)),
                thickness=2.0,
                thickness_units="screen",
                color=tuple(int(c) for c in colours[index]),
                image=shrunk(self.scene.views[index].pixels, _THUMBNAIL),
                wxyz=viser.transforms.SO3.from_matrix(pose[:3, :3]).wxyz,
                position=pose[:3, 3],
                cast_shadow=False,
            )
            handle.on_click(lambda event, index=index: self._see_photo(event.client, index))
            handles.append(handle)
        return handles

    def _add_controls(self) -> None:
        gui = self._server.gui
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        for part, title in (("mesh", "Surface"), ("cloud", "Points"), ("cameras", "Cameras")):
            box = gui.add_checkbox(title, self._shown[part])
            box.on_update(lambda event, part=part: self._show(part, event.target.value))
        colouring = gui.add_dropdown("Colour", COLOURINGS)
        colouring.on_update(lambda event: self._colour_by(event.target.value))
        least = gui.add_slider("Confidence", 0.0, 1.0, 0.01, 0.0, hint="least, of points")
        least.on_update(lambda event: self._filter_by(event.target.value))
        size = gui.add_slider("Point size", 0.2, 5.0, 0.1, 1.0)
        size.on_update(lambda event: self._resize_points(event.target.value))
        names = {
            f"{index + 1} {self.scene.views[index].name}": index for index, _, _ in self._cameras
        }
        if names:
            photo = gui.add_dropdown("Seen from", tuple(names))
            photo.on_update(lambda event: self._see_photo(event.client, names[event.target.value]))
        whole = gui.add_button("Whole scene")
        whole.on_click(lambda event: self._look_from(event.client, self._home))
        shot = gui.add_button("Screenshot")
        shot.on_click(lambda event: _send_screenshot(event.client))

    def _show(self, part: str, on: bool) -> None:
        self._shown[part] = on
        for handle in self._parts[part]:
            handle.visible = on

    def _colour_by(self, colouring: Colouring) -> None:
        self.colouring = colouring
        self._draw("mesh")
        self._draw("cloud")

    def _filter_by(self, least_confidence: float) -> None:
        self.least_confidence = least_confidence
        self._draw("cloud")

    def _resize_points(self, factor: float) -> None:
        self._point_size = factor * self._dot_size()
        for handle in self._parts["cloud"]:
            handle.point_size = self._point_size

    def _dot_size(self) -> float:
        """Return the size in scene units at which the cloud's points about close up."""
        count = max(len(self.scene.cloud.points), 1)
        return float(
            np.clip(2.5 * self._frame.radius / np.sqrt(count), 0, 0.02 * self._frame.radius)
        )

    def _see_photo(self, client: Any, index: int) -> None:
        aspect = client.camera.aspect if client is not None else 1.6
        self._look_from(client, photo_viewpoint(self.scene, index, aspect=aspect))

    def _look_from(self, client: Any, view: Viewpoint) -> None:
        if client is None:
            return
        camera = client.camera
        # A browser whose window is narrow sees the scene's width all the same.
        camera.up_direction = view.up
        camera.position = view.eye
        camera.look_at = view.target
        camera.fov = float(np.radians(view.field_of_view_deg))
        camera.near, camera.far = 0.002 * self._frame.radius, 60 * self._frame.radius


def _send_screenshot(client: Any) -> None:
    """Have the browser draw its view once more and save it as a download."""
    from PIL import Image

    packed = io.BytesIO()
    camera = client.camera
    picture = client.get_render(height=camera.image_height, width=camera.image_width)
    Image.fromarray(picture).save(packed, "PNG")
    client.send_file_download("pointmap.png", packed.getvalue())
