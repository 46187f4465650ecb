"""How a command is started: quick, and an interrupt while its modules come in is one line, too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

# Open3D imports what draws in notebooks with itself, dash and plotly: a seventh of the time that a
# run spends on imports, and no command uses it.
_UNUSED = "open3d.visualization.draw_plotly"


class _Unused(ModuleType):
    """Stands for a module that is not used: whatever is imported from it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def launch(module: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Import ``module``, call its ``main(arguments, prog=prog)`` and return its exit code.

    130 after an interrupt before its work began: later ones end in codes of its own
    (:func:`pointmap.commands.run_command`).
    """
    sys.modules.setdefault(_UNUSED, _Unused(_UNUSED))
    try:
        main = importlib.import_module(module).main
        return int((main(arguments) if prog is None else main(arguments, prog=prog)) or 0)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was written\n")
        return 130
