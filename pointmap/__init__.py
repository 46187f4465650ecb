"""Photos to pairwise pointmaps: the network, its checkpoints, photo loading and inference.

What outside code may use is in ``__all__``; anything else may change at any time.
"""

from typing import TYPE_CHECKING

from pointmap.lazy import lazy_names

if TYPE_CHECKING:
    from pointmap.checkpoint import load_network, save_checkpoint
    from pointmap.errors import InputError
    from pointmap.images import Photo, ResizedPhoto, load_photo, open_photos
    from pointmap.inference import (
        EncodedPhotos,
        PairPrediction,
        choose_device,
        encode_photos,
        predict_pairs,
    )
    from pointmap.photo_files import find_photos

__version__ = "0.2.0"

__all__ = [
    "EncodedPhotos",
    "InputError",
    "PairPrediction",
    "Photo",
    "ResizedPhoto",
    "__version__",
    "choose_device",
    "encode_photos",
    "find_photos",
    "load_network",
    "load_photo",
    "open_photos",
    "predict_pairs",
    "save_checkpoint",
]

__getattr__ = lazy_names(
    __name__,
    {
        "EncodedPhotos": "pointmap.inference",
        "InputError": "pointmap.errors",
        "PairPrediction": "pointmap.inference",
        "Photo": "pointmap.images",
        "ResizedPhoto": "pointmap.images",
        "choose_device": "pointmap.inference",
        "encode_photos": "pointmap.inference",
        "find_photos": "pointmap.photo_files",
        "load_network": "pointmap.checkpoint",
        "load_photo": "pointmap.images",
        "open_photos": "pointmap.images",
        "predict_pairs": "pointmap.inference",
        "save_checkpoint": "pointmap.checkpoint",
    },
)
