"""Dense depth of all photos: the prior tied to the scene, then stereo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, scale_intrinsics
from pointmap.images import ResizedPhoto
from pointmap.masks import eroded
from recon.depth.anchored_prior import DepthOptions, counted, tied_depth
from recon.depth.given_maps_in_scene import priors_from_scene
from recon.depth.one_place import in_one_scale
from recon.depth.prompted_maps import prompted_maps
from recon.depth.still_regions import without_still_regions
from recon.depth.undistorted import as_pinhole, in_photo
from recon.progress import Advance, unheard
from recon.stage_results import Alignment, DenseDepths, DepthMap, PairEvidence, PhotoPrior
from recon.stereo.refine import refine_depths
from recon.stereo.view import StereoOptions, StereoView
from recon.work.content_key import content_key, item_key
from recon.work.on_demand import OnDemand, Scattered
from recon.work.pieces import Needs

if TYPE_CHECKING:
    from pointmap.lens import Lens
    from recon.inputs import Inputs
    from recon.work.folder import Work

# Of the tied depths, for results that were kept.
_VERSION = 2
_NEEDS = Needs("Depth: tied", memory_mb=1300, per_task=4)
_BACK_VERSION = 1
_BACK_NEEDS = Needs("Depth: in photos", memory_mb=1300, per_task=8)


def dense_depths(
    inputs: Inputs,
    alignment: Alignment,
    evidence: PairEvidence,
    *,
    long_side: int,
    prior: DepthOptions,
    stereo: StereoOptions | None,
    advance: Advance = unheard,
) -> DenseDepths:
    """Return the depth of every photo that was placed, its long side at most ``long_side`` pixels.

    The priors of ``evidence``, or given maps in their place, are tied to the scene as ``prior``
    says. Without ``stereo`` options they stay as they are. What stands still while the camera moves
    has no depth.
    """
    frames = inputs.frames(long_side)
    priors = evidence.priors
    if inputs.maps is not None:
        maps = prompted_maps(inputs, frames, alignment)
        priors, alignment = priors_from_scene(
            maps, frames, alignment, priors, evidence.network_priors or priors
        )
    alignment = in_one_scale(alignment, priors, inputs.photos)
    moving = without_still_regions(inputs, frames, alignment)
    placed = np.flatnonzero(alignment.placed).tolist()
    names = [str(inputs.photos[k].path) for k in placed]
    depths: Sequence[DepthMap] = inputs.work.each(
        [_tied_key(moving, priors, alignment, k, len(placed), prior) for k in placed],
        lambda k: counted(tied_depth(priors[k], alignment, k, moving[k], prior), moving[k]),
        of=placed,
        at_once=None,
        needs=_NEEDS,
        photos=lambda n: [names[n]],
    )
    if stereo is not None and len(placed) > 1:
        views = _StereoViews(moving, alignment, placed, depths)
        refined = refine_depths(
            views,
            options=stereo,
            device=inputs.device,
            work=inputs.work,
            names=names,
            on_progress=advance,
        )
        depths = _in_photos(inputs.work, views, refined, names)
    return DenseDepths(frames, priors, Scattered(depths, placed, len(frames)))


def _in_photos(
    work: Work, views: _StereoViews, refined: Sequence[DepthMap], names: Sequence[str]
) -> Sequence[DepthMap]:
    """Return the ``refined`` depth at the photos' own pixels, kept: every later stage asks for it
    several times.
    """
    if not any(views.lenses):
        return refined
    return work.each(
        [
            content_key("depth in photo", _BACK_VERSION, views.item_key(n), item_key(refined, n))
            for n in range(len(views))
        ],
        lambda n: views.in_photo(n, refined[n]),
        at_once=None,
        needs=_BACK_NEEDS,
        photos=lambda n: [names[n]],
    )


def _tied_key(
    frames: Sequence[ResizedPhoto],
    priors: Sequence[PhotoPrior],
    alignment: Alignment,
    k: int,
    placed: int,
    options: DepthOptions,
) -> str:
    """Return the name of a photo's tied depth."""
    rows = alignment.tracks.seen_by(k)
    return content_key(
        "tied depth",
        _VERSION,
        item_key(frames, k),
        item_key(priors, k),
        alignment.cam_to_world[k],
        alignment.tracks.points[alignment.tracks.point_index[rows]],
        alignment.tracks.xy[rows],
        alignment.depth_scale[k],
        placed > 1,
        options,
    )


class _StereoViews(OnDemand[StereoView]):
    """The placed photos as stereo takes them, each put together when it is asked for."""

    def __init__(
        self,
        frames: Sequence[ResizedPhoto],
        alignment: Alignment,
        placed: Sequence[int],
        depths: Sequence[DepthMap],
    ) -> None:
        self._frames, self._alignment = frames, alignment
        self._placed, self._depths = placed, depths

    def __len__(self) -> int:
        return len(self._placed)

    @property
    def lenses(self) -> list[Lens]:
        """The lens of each photo."""
        return [self._alignment.lenses[k] for k in self._placed]

    def item(self, index: int) -> StereoView:
        """Return one of them."""
        k, alignment = self._placed[index], self._alignment
        frame, cam_to_world = self._frames[k], alignment.cam_to_world[k]
        assert cam_to_world is not None
        seen = alignment.tracks.point_index[alignment.tracks.seen_by(k)]
        view = StereoView(
            pixels=frame.pixels,
            intrinsics=self._intrinsics(k),
            cam_to_world=cam_to_world,
            prior=self._depths[index],
            points=alignment.tracks.points[seen],
            point_ids=seen,
            usable=None if frame.usable is None else eroded(frame.usable),
        )
        return as_pinhole(view, alignment.lenses[k])

    def item_key(self, index: int) -> str:
        """Return the name of one of them."""
        k, alignment = self._placed[index], self._alignment
        seen = alignment.tracks.point_index[alignment.tracks.seen_by(k)]
        return content_key(
            "stereo view",
            1,
            item_key(self._frames, k),
            item_key(self._depths, index),
            alignment.intrinsics[k],
            alignment.lenses[k],
            alignment.cam_to_world[k],
            seen,
            alignment.tracks.points[seen],
        )

    def in_photo(self, index: int, found: DepthMap) -> DepthMap:
        """Return the depth ``found`` for one of them at its photo's own pixels."""
        k = self._placed[index]
        lens = self._alignment.lenses[k]
        return in_photo(found, self._depths[index], self._intrinsics(k), lens)

    def _intrinsics(self, k: int) -> Array:
        """Return K (3, 3) of a photo at its frame's size."""
        frame = self._frames[k]
        return scale_intrinsics(self._alignment.intrinsics[k], frame.scale_x, frame.scale_y)
