"""``pointmap generate``: scenes that the network trains on, rendered here or on a cluster."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pointmap.commands import run_command
from pointmap.errors import InputError
from pointmap.training.generate import Plan, parser_of, plan_of, write_shards
from pointmap.training.scenes.textures import TextureBank
from recon.cluster.connect import LOCAL, pieces_on
from recon.work.folder import Work
from recon.work.pieces import Needs, PieceMap, PiecesFailed

logger = logging.getLogger(__name__)

# With shards of 48 scenes, four photos of 384x288 each.
_NEEDS = Needs("Training scenes", memory_mb=1500)


def main(arguments: Sequence[str] | None = None, prog: str = "pointmap generate") -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    parser = parser_of(prog)
    parser.add_argument(
        "--cluster", default=LOCAL,
        help="where it is done: local, or as tasks of a Ray cluster, auto or host:port (local)",
    )  # fmt: skip
    given = parser.parse_args(arguments)

    def run() -> int:
        if given.cluster != LOCAL and given.workers != 1:
            raise InputError("--workers is for this machine: it doesn't go with --cluster")
        plan = plan_of(given)
        if given.cluster == LOCAL:
            write_shards(plan)
            return 0
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        with pieces_on(given.cluster) as pieces:
            write_by_pieces(plan, pieces)
        return 0

    return run_command(run, left=lambda: f"the same command goes on from what is in {given.out}")


def write_by_pieces(plan: Plan, pieces: PieceMap) -> None:
    """Write the shards that are missing, each a piece of ``pieces``.

    Nodes that see the folder write to it; of others the driver takes and writes them. Raises
    ``InputError`` when another run writes shards of this seed there, and, when all others are done,
    for shards that a cluster failed to make.
    """
    plan = replace(plan, out=plan.out.absolute())
    missing = plan.missing()
    if not missing:
        return
    # By its mark nodes tell whether they see the folder.
    work = Work(plan.out / f"seed-{plan.seed}.work", pieces)
    with work.held():
        make = _Writer(plan, plan.bank(), work)
        needs = replace(_NEEDS, gpu=plan.device != "cpu")
        try:
            for number, data in zip(missing, pieces.each(make, missing, needs=needs), strict=True):
                if data is not None:
                    _put(plan.path(number), data)
                logger.info("%s is there", plan.path(number).name)
        except PiecesFailed as failed:
            reason = next(iter(failed.reasons.values()))
            raise InputError(
                f"the cluster failed three times on each of {len(failed.reasons)} shards "
                f"({reason}): run the same command again, it makes what is missing"
            ) from failed
        finally:
            work.delete()


@dataclass(frozen=True)
class _Writer:
    """Writes a shard where this process sees the folder; elsewhere returns what its file holds."""

    plan: Plan
    bank: TextureBank
    work: Work

    def __call__(self, number: int) -> bytes | None:
        path = self.plan.path(number)
        if not self.work.is_copy:
            self.plan.write(number, self.bank, path)
            return None
        with tempfile.TemporaryDirectory(prefix="pointmap-") as folder:
            here = Path(folder) / path.name
            self.plan.write(number, self.bank, here)
            return here.read_bytes()


def _put(path: Path, data: bytes) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(data)
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
