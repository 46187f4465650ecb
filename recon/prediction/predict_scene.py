"""What the network says of all photos of a scene, and what later stages keep of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon.prediction.view_graph import ViewGraphOptions
from recon.progress import Advance, unheard
from recon.stage_results import NetworkResult, PairMatches

if TYPE_CHECKING:
    from recon.inputs import Inputs


def predict_scene(
    inputs: Inputs, options: ViewGraphOptions, *, advance: Advance = unheard
) -> NetworkResult:
    """Encode each photo once, decode each pair, and keep of it only what later stages need."""
    from pointmap.inference import encode_photos, predict_pairs
    from recon.prediction.descriptor_matches import match_descriptors
    from recon.prediction.pair_sketch import sketch_pair
    from recon.prediction.photo_prior import PriorAccumulator
    from recon.prediction.view_graph import build_view_graph

    photos, network, device = inputs.photos, inputs.network, inputs.device
    encoded = encode_photos(network, inputs.network_frames(), device=device)
    graph = build_view_graph(len(photos), descriptors=encoded.descriptors, options=options)
    # A photo alone is looked at as a pair with itself.
    looked_at = graph.pairs or tuple((k, k) for k in range(len(photos)))
    accumulator = PriorAccumulator(photos)
    sketches = []
    local: dict[tuple[int, int], PairMatches] = {}
    forth = None
    for prediction in predict_pairs(
        network, encoded, looked_at, device=device, on_progress=advance
    ):
        accumulator.add(prediction)
        if prediction.i != prediction.j:
            sketches.append(sketch_pair(prediction, photos[prediction.i]))
        if prediction.i < prediction.j:
            forth = prediction
        elif forth is not None and prediction.i > prediction.j:
            matches = match_descriptors(forth, prediction, photos, device=device)
            if matches is not None:
                local[forth.i, forth.j] = matches
    return NetworkResult(graph.pairs, accumulator.finish(), sketches, local)
