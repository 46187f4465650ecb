"""The command ``pointmap``: a word for each thing to do. Imports nothing until it knows which."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pointmap.launch import launch

# By verb: the module whose main(arguments, prog=...) does it, what is said of it, and arguments
# that stand before the user's.
VERBS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "reconstruct": ("recon.cli", "photos or videos to cameras, cloud, mesh and files", ()),
    "depth": ("recon.cli", "each photo by itself: depth, normals, mesh", ("--mode", "depth")),
    "batch": ("recon.batch.command", "many scenes, each on its own, and a page of them", ()),
    "view": ("viz.command", "a scene in a window, a browser, a page, a picture, a film", ()),
    "export": ("recon.export.command", "files of a scene: other formats, cut, scaled, turned", ()),
    "localise": ("recon.localise.command", "where photos were taken, in a scene's frame", ()),
    "evaluate": ("recon.evaluation.command", "scores of scenes, meshes, depth, pairs", ()),
    "generate": ("recon.cluster.generate", "scenes that the network trains on, rendered", ()),
    "train": ("pointmap.training.command", "weights of the network", ()),
    "doctor": ("recon.doctor", "what this machine has, and what would be faster", ()),
}
_EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb that ``arguments`` (``sys.argv`` by default) begin with; return its exit code.

    2 for a verb that there is not; 130 when interrupted before the verb's own command runs.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in ([], ["--help"], ["-h"], ["help"]):
        sys.stdout.write(_help())
        return 0 if given else _EXIT_USAGE
    if given == ["--version"]:
        from pointmap.version import VERSION_LINE

        sys.stdout.write(f"{VERSION_LINE}\n")
        return 0
    verb, *rest = given
    if verb not in VERBS:
        sys.stderr.write(f"error: pointmap has no verb {verb!r}; it has {', '.join(VERBS)}\n")
        return _EXIT_USAGE
    module, _, first = VERBS[verb]
    # Read once, when torch is imported: idle threads that spin slow everything.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if rest != ["--version"]:
        rest = [*first, *rest]
    return launch(module, rest, f"pointmap {verb}")


def _help() -> str:
    verbs = "\n".join(f"  {verb:<12} {said}" for verb, (_, said, _) in VERBS.items())
    return f"""usage: pointmap VERB ...

Photos in; cameras, cloud, mesh and a view you can turn out.

{verbs}

pointmap VERB --help lists what each takes; pointmap --version prints the version.

examples:
  pointmap reconstruct my_photos/ --out my_scene
  pointmap view my_scene
  pointmap export my_scene --format glb obj --up y --out for_games
"""


if __name__ == "__main__":
    sys.exit(main())
