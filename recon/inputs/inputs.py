"""What a run starts from: photos, what is known of their cameras, given maps, network, device."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pointmap.camera import Mask
from pointmap.damaged_jpegs import damage_of_jpegs
from pointmap.errors import InputError, number_of, some_of, told_together
from pointmap.file_digest import file_sha256
from pointmap.images import (
    Photo,
    Rejected,
    ResizedPhoto,
    as_frame,
    load_photo,
    open_photos,
    without_part,
)
from pointmap.masks import continued
from pointmap.photo_files import find_photos, find_videos
from pointmap.video.frames import choose_frames
from recon.depth_models import DepthModel, load_depth_model
from recon.inputs.known_cameras import KnownCameras
from recon.inputs.masks import mask_digest, masked, with_masks, without_masks
from recon.inputs.read_cameras import load_known_cameras
from recon.localise.extension import extended
from recon.matchers import Matcher, load_matcher
from recon.prediction.given_maps import PriorMap, read_prior_maps
from recon.progress import Advance, Run
from recon.work.content_key import content_key
from recon.work.folder import CACHE_BYTES, Work
from recon.work.on_demand import Chosen, OnDemand

if TYPE_CHECKING:
    import torch

    from pointmap.network import PointmapNetwork
    from recon.options import Options

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What every stage is handed first; made once, by :func:`read_inputs`.

    ``photos`` N, with what is ``known`` of their cameras; ``maps``: a given depth map per photo, in
    the place of the network's depth, or None; ``network``, which is moved to ``device`` when it is
    first asked; ``work`` keeps what the stages find; ``depth_model``, that makes the ``maps``
    (:func:`recon.depth_models.predict_maps.with_model_maps`), and a ``matcher`` beside SIFT
    (:func:`recon.two_view.learned_matching.match_by_model`), or None; ``still``: per photo what
    stands still while others move (h, w, coarsely), which is as if masked, or None.
    """

    photos: tuple[Photo, ...]
    known: KnownCameras
    maps: Sequence[PriorMap] | None
    network: PointmapNetwork
    device: torch.device
    work: Work = field(default_factory=Work, compare=False)
    depth_model: DepthModel | None = None
    matcher: Matcher | None = None
    still: tuple[Mask | None, ...] | None = None

    @cached_property
    def photo_keys(self) -> tuple[str, ...]:
        """Per photo a name of its file's content and of what its camera is called.

        Raises ``InputError`` for a file that has become unreadable meanwhile.
        """
        return tuple(
            content_key(
                "photo",
                9,
                digest,
                mask,
                photo.camera_key,
                photo.exif_focal_px,
                photo.sound_share,
                *(photo.picture_middle or ()),
                *((photo.width, photo.height) if photo.file_size else ()),
                *still,
            )
            for photo, (_, digest), mask, still in zip(
                self.photos, self._contents, self._masks, self._still_parts, strict=True
            )
        )

    @property
    def _still_parts(self) -> list[tuple[Mask, ...]]:
        """Per photo what stands still in it, nothing where nothing does."""
        still = self.still or (None,) * len(self.photos)
        return [() if part is None else (part,) for part in still]

    @cached_property
    def network_key(self) -> str:
        """Name of the network's form and weights."""
        weights = self.network.state_dict()
        return content_key(
            "network",
            1,
            self.network.config,
            {name: tensor.float().cpu().numpy() for name, tensor in weights.items()},
        )

    @cached_property
    def _contents(self) -> tuple[tuple[os.stat_result, str], ...]:
        """Per photo how its file lay there, and the SHA-256 of what it held."""
        return tuple(_content(photo) for photo in self.photos)

    @cached_property
    def _masks(self) -> tuple[str | None, ...]:
        """Per photo the SHA-256 of its mask file, None where it has none."""
        return tuple(
            None if photo.mask is None else mask_digest(photo.mask) for photo in self.photos
        )

    def load(self, number: int, *, long_side: int, multiple: int = 1) -> ResizedPhoto:
        """Return one photo resized (see :func:`pointmap.images.load_photo`), without what stands
        still in it.

        Raises ``InputError`` for a file that has changed or become unreadable meanwhile.
        """
        # Before, as a decoder would call a half-written file damaged; after, as it may change now.
        self._check_unchanged(number)
        loaded = load_photo(self.photos[number], long_side=long_side, multiple=multiple)
        self._check_unchanged(number)
        if self.still is None or self.still[number] is None:
            return loaded
        moving = without_part(loaded, self.still[number])
        assert moving.usable is not None
        return replace(moving, pixels=continued(moving.pixels, moving.usable))

    def _check_unchanged(self, number: int) -> None:
        photo, (before, _) = self.photos[number], self._contents[number]
        now = _status(photo)
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise InputError(f"{photo.path}: changed since the start; run the same command again")

    def of_photos(self, numbers: Sequence[int]) -> Inputs:
        """Return the same of some photos alone."""
        return replace(
            self,
            photos=tuple(self.photos[k] for k in numbers),
            known=replace(
                self.known,
                lenses=tuple(self.known.lenses[k] for k in numbers),
                cam_to_world=tuple(self.known.cam_to_world[k] for k in numbers),
            ),
            maps=None if self.maps is None else Chosen(self.maps, numbers),
            still=None if self.still is None else tuple(self.still[k] for k in numbers),
        )

    def frames(self, long_side: int, *, multiple: int = 1) -> Frames:
        """Return all photos resized (see :func:`pointmap.images.load_photo`).

        They are decoded when they are asked for, and that raises ``InputError`` for a file that has
        become unreadable meanwhile.
        """
        return Frames(self, long_side, multiple)

    def network_frames(self) -> Frames:
        """Return all photos at the size in which the network sees them."""
        config = self.network.config
        return self.frames(max(config.img_size), multiple=config.patch_size)

    @property
    def is_single_photo(self) -> bool:
        """Whether there is one photo and nothing but models tells its camera and depth."""
        known = (*self.known.lenses, *self.known.cam_to_world)
        return len(self.photos) == 1 and self.maps is None and all(k is None for k in known)


class Frames(OnDemand[ResizedPhoto]):
    """All photos at one size, decoded when they are asked for; the last ones are kept."""

    def __init__(self, inputs: Inputs, long_side: int, multiple: int) -> None:
        self._inputs = inputs
        self.size = long_side, multiple
        # Three bytes a pixel, and photos are rarely square.
        most = max(16, CACHE_BYTES // (3 * long_side**2))
        # Not of a method of its own: a cache that refers to its owner would outlive it.
        self._load = lru_cache(most)(partial(inputs.load, long_side=long_side, multiple=multiple))

    def __reduce__(self) -> tuple[Callable[..., Frames], tuple[Inputs, int, int]]:
        # Another process keeps its own last ones.
        return _frames_of, (self._inputs, *self.size)

    def item_key(self, index: int) -> str:
        """Return the name of one photo at this size."""
        return content_key("frame", 1, self._inputs.photo_keys[index], self.size)

    def __len__(self) -> int:
        return len(self._inputs.photos)

    def item(self, index: int) -> ResizedPhoto:
        """Return one photo."""
        return self._load(index)


def _frames_of(inputs: Inputs, long_side: int, multiple: int) -> Frames:
    return inputs.frames(long_side, multiple=multiple)


def _status(photo: Photo) -> os.stat_result:
    try:
        return photo.path.stat()
    except OSError as error:
        raise _unreadable(photo, error) from error


def _content(photo: Photo) -> tuple[os.stat_result, str]:
    """Return how a photo's file lies there, and the SHA-256 of what it holds."""
    status = _status(photo)
    return status, _digest(photo, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(photo: Photo, size: int, changed_ns: int) -> str:
    """Return the SHA-256 of a photo's file; ``size`` and ``changed_ns`` tell it from later ones."""
    try:
        return file_sha256(photo.path)
    except OSError as error:
        raise _unreadable(photo, error) from error


def _unreadable(photo: Photo, error: OSError) -> InputError:
    return InputError(
        f"{photo.path} can no longer be read ({error.strerror or error}): run the same command "
        "again when it is back"
    )


def read_inputs(
    photos: Sequence[str | Path],
    options: Options,
    *,
    frames: Mapping[Path, Sequence[Path]] | None = None,
    depth_model: DepthModel | None = None,
    matcher: Matcher | None = None,
    work: Work | None = None,
) -> Inputs:
    """Read what a run starts from; whatever can be wrong with it shows here.

    ``photos``: files, folders or patterns, and videos, whose ``frames`` stand in for them
    (:func:`pointmap.video.frames.choose_frames`); ``depth_model``, ``matcher``: in the place of
    those that the ``options`` name; ``work`` keeps what the stages find, by default as long as
    somebody holds it. Files that cannot be used are left out with a warning. Raises ``InputError``
    when no photo is left, or another input cannot be used.
    """
    from pointmap.checkpoint import load_network
    from pointmap.inference import choose_device

    opened = open_usable(photos, frames, recursive=options.recursive)
    opened = _without_copies(without_masks(options.masks, opened))
    opened = with_masks(options.masks, opened)
    if options.extend is None:
        known = load_known_cameras(options.known_cameras, opened)
        pairs = zip(known.lenses, known.cam_to_world, strict=True)
        count = sum(lens is not None or pose is not None for lens, pose in pairs)
        if options.known_cameras is not None and count < len(opened):
            logger.warning(
                "%s knows %d of the %d photos", options.known_cameras, count, len(opened)
            )
        if options.masks is None and any(known.masks):
            opened = masked(opened, known.masks)
    else:
        opened, known = extended(options.extend, opened)
    maps = None
    if options.prior_depth is not None:
        maps = tuple(read_prior_maps(Path(options.prior_depth), opened))
    device = choose_device(options.device)
    if depth_model is None and options.depth_model is not None:
        depth_model = load_depth_model(options.depth_model, device=device)
    return Inputs(
        tuple(opened),
        known,
        maps,
        load_network(options.weights),
        device,
        work or Work(),
        depth_model,
        matcher or load_matcher(options.matcher, device=device),
    )


def frames_of_videos(
    given: Sequence[str | Path], run: Run, work: Work, *, target: int | None, recursive: bool
) -> dict[Path, list[Path]]:
    """Return {video: its frames} of the videos among what is ``given``, chosen as a stage of the
    ``run``; see :func:`video_frames`.
    """
    videos = find_videos(given, recursive=recursive)
    if videos:
        with run.stage("Choosing frames") as advance:
            return video_frames(videos, work, target=target, advance=advance)
    if target is not None:
        logger.warning("--frames counts those of videos, and none is given: all photos are used")
    return {}


def video_frames(
    videos: Sequence[Path], work: Work, *, target: int | None, advance: Advance
) -> dict[Path, list[Path]]:
    """Return the frames of ``videos`` that stand in for them, which lie in the ``work`` folder.

    ``target``: how many in all, see :func:`pointmap.video.frames.choose_frames`. Raises
    ``InputError`` as that does, and when a video cannot be read.
    """

    def choose() -> dict[Path, list[Path]]:
        folder = work.frames_folder()
        return choose_frames(videos, folder, target=target, on_progress=advance)

    try:
        contents = [(video.name, file_sha256(video)) for video in videos]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror or error}") from error
    # The files are kept by the folder itself; this keeps what was warned of when they were made.
    work.once(content_key("frames of videos", 1, contents, target), lambda: len(choose()))
    return choose()


def open_usable(
    inputs: Sequence[str | Path],
    frames: Mapping[Path, Sequence[Path]] | None = None,
    *,
    recursive: bool = False,
) -> list[Photo]:
    """Return the photos that can be used; ``InputError`` when there is none.

    ``frames``, ``recursive``: as in :func:`read_inputs`.
    """
    opened, rejected = open_photos(find_photos(inputs, frames=frames, recursive=recursive))
    _tell_left_out(rejected)
    if not opened:
        raise InputError(
            "no usable photo: each of the files was left out (see the warnings); "
            "give JPEG, PNG, WebP, TIFF or HEIC photos of at least 32 pixels a side"
            if rejected
            else "no photo found; give photo files or a folder that holds some"
        )
    opened = _without_damage(opened)
    videos = {frame: video for video, some in (frames or {}).items() for frame in some}
    return [
        as_frame(photo, videos[photo.path].name) if photo.path in videos else photo
        for photo in opened
    ]


def _tell_left_out(rejected: Sequence[Rejected]) -> None:
    """Warn of files that can't be used, of many for one reason in one line."""
    for names, reason in told_together((each.path.name, each.reason) for each in rejected):
        if len(names) == 1:
            logger.warning("%s is left out: %s", names[0], reason)
        else:
            logger.warning("%d files are left out (%s): %s", len(names), some_of(names), reason)


def _without_damage(photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos, of JPEGs that are damaged inside only what is above the damage; warn."""
    damage = damage_of_jpegs([photo.path for photo in photos])
    damaged = [
        f"{photo.name} ({found.words})"
        for photo, found in zip(photos, damage, strict=True)
        if found is not None
    ]
    if damaged:
        logger.warning(
            "%s damaged inside: from there on they may be grey, shifted or of wrong colours, and "
            "are ignored where that shows; copy from the camera again: %s",
            number_of(len(damaged), "photo is", "photos are"),
            some_of(damaged),
        )
    return [
        photo if found is None else replace(photo, sound_share=found.share)
        for photo, found in zip(photos, damage, strict=True)
    ]


def _without_copies(photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos without those whose files hold the same as another's of a shorter name, or
    an earlier one's: copies are called "a (1).jpg" or "copy of a.jpg".

    Copies add nothing, and a photo that stands where another one does has no parallax to it.
    """
    contents = [_content(photo)[1] for photo in photos]
    same: dict[str, list[Photo]] = {}
    for photo, content in zip(photos, contents, strict=True):
        same.setdefault(content, []).append(photo)
    kept, copies = [], []
    for photo, content in zip(photos, contents, strict=True):
        original = min(same[content], key=lambda one: len(one.name))
        if original is photo:
            kept.append(photo)
        else:
            copies.append(f"{photo.name} of {original.name}")
    if copies:
        named = some_of(copies)
        count = number_of(len(copies), "photo is", "photos are")
        logger.warning("%s left out, as copies of others: %s", count, named)
    return kept
