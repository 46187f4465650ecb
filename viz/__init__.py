"""A scene as a person sees it: windows, pictures, films and pages.

What outside code may use is in ``__all__``; anything else may change at any time.
"""

from typing import TYPE_CHECKING

from pointmap.lazy import lazy_names

if TYPE_CHECKING:
    from viz.pages.report import write_report
    from viz.pages.scene_page import write_scene_page
    from viz.video import write_video
    from viz.viewers.browser import browse
    from viz.viewers.window import save_picture, show

__all__ = ["browse", "save_picture", "show", "write_report", "write_scene_page", "write_video"]

__getattr__ = lazy_names(
    __name__,
    {
        "browse": "viz.viewers.browser",
        "save_picture": "viz.viewers.window",
        "show": "viz.viewers.window",
        "write_report": "viz.pages.report",
        "write_scene_page": "viz.pages.scene_page",
        "write_video": "viz.video",
    },
)
