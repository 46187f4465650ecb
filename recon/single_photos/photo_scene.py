"""One photo by itself: what the network says of it without any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pointmap.errors import InputError
from pointmap.images import Photo
from recon.depth.anchored_prior import counted, upsample_prior
from recon.depth.depth_mesh import mesh_from_depth, under_photo
from recon.depth.derived_maps import joint_bilateral
from recon.depth_models.predict_maps import with_model_maps
from recon.fusion import fuse_points
from recon.prediction.given_maps import prior_alone
from recon.prediction.photo_prior import PriorAccumulator
from recon.scene import Camera, LoadedMaps, Scene, Tracks, View
from recon.stage_results import PhotoPrior
from recon.two_view.focal_lengths import solve_focals
from recon.work.content_key import content_key
from recon.world.frame import settled
from recon.world.metric_scale import in_metres

if TYPE_CHECKING:
    import torch

    from pointmap.network import PointmapNetwork
    from recon.inputs import Inputs
    from recon.options import Options

# Of predict_alone, for results that were kept.
_VERSION = 1


def predict_alone(
    photos: Sequence[Photo], network: PointmapNetwork, *, device: torch.device
) -> Iterator[PhotoPrior]:
    """Yield each photo's pointmap and focal length, the photo looked at as a pair with itself."""
    from pointmap.inference import encode_photos, network_photos, predict_pairs

    for photo in photos:
        encoded = encode_photos(network, network_photos(network, [photo]), device=device)
        accumulator = PriorAccumulator([photo])
        for prediction in predict_pairs(network, encoded, [(0, 0)], device=device):
            accumulator.add(prediction)
        yield accumulator.finish()[0]


def photo_scene(inputs: Inputs, number: int, options: Options) -> Scene:
    """Return the scene of one photo: camera, depth, cloud and mesh.

    The focal length is the given one, EXIF's or the network's. A depth model of the ``inputs``
    takes the network's place, as far as it says something; what either says is kept in their work.
    Raises ``InputError`` for a photo that shows nothing (one single colour), and when the network
    predicts nothing usable.
    """
    # Of this photo alone: another one that has become unreadable is none of its concern.
    alone = inputs.of_photos([number])
    photo, network, device = alone.photos[0], inputs.network, inputs.device
    frame = alone.load(0, long_side=options.depth_size)
    if np.ptp(frame.pixels.reshape(-1, 3), axis=0).max() == 0:
        raise InputError(f"{photo.name} shows one single colour: there is no depth in it")
    network_prior = inputs.work.once(
        content_key("photo alone", _VERSION, inputs.network_key, alone.photo_keys),
        lambda: next(predict_alone([photo], network, device=device)),
    )
    maps = with_model_maps(alone).maps or ()
    prior = prior_alone(maps[0], photo, network_prior) if maps else network_prior
    depth = counted(upsample_prior(prior, *frame.pixels.shape[:2]), frame)
    if not depth.confidence.any():
        raise InputError(
            f"{photo.name}: the network is sure of no pixel's depth; give another checkpoint"
        )
    focal_px = float(solve_focals([photo], [], [prior], options.focal).focals_px[0])
    K = photo.pinhole(focal_px)
    camera = Camera(K, photo.width, photo.height, np.eye(4))
    # Between the network's pixels the photo knows better where things end.
    smooth = joint_bilateral(depth.depth, frame.pixels).astype(np.float32)
    view = View(
        photo.name,
        photo.path,
        camera,
        LoadedMaps(frame.pixels, smooth, depth.confidence, frame.usable),
        turned=photo.turned,
        video=photo.video,
        mask=photo.mask,
    )
    (view,), found, _ = settled([view], options.world)
    surface = mesh_from_depth(view)
    scene = Scene(
        views=(view,),
        tracks=Tracks.empty(),
        cloud=fuse_points([view], options=options.fusion),
        surface=surface,
        textured=under_photo(surface, view) if options.fusion.texture else None,
        world=found,
    )
    return in_metres(scene, [network_prior], options.scale_from, maps=maps)
