"""Encoding once and decoding pairs, against plain forward passes of a tiny random network."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto
from pointmap.inference import (
    EncodedPhotos,
    PairPrediction,
    choose_device,
    choose_dtype,
    encode_photos,
    predict_pairs,
)
from pointmap.network import DUSt3R, DUSt3RConfig, PhotoTokens
from pointmap.network.heads import DirectedPrediction
from pointmap.network.tokens import PhotoMaps

CPU = torch.device("cpu")
LANDSCAPE, PORTRAIT = (32, 48), (48, 32)


SIZES: dict[str, Any] = {
    "enc_embed_dim": 32,
    "enc_depth": 2,
    "enc_num_heads": 2,
    "dec_embed_dim": 16,
    "dec_depth": 4,
    "dec_num_heads": 2,
}
SMALL_DPT: dict[str, Any] = {"feature_dim": 8, "layer_dims": (4, 4, 4, 4)}


@pytest.fixture(scope="module")
def network() -> DUSt3R:
    torch.manual_seed(0)
    return DUSt3R(DUSt3RConfig(**SIZES)).eval()


@pytest.fixture(scope="module")
def mast3r() -> DUSt3R:
    torch.manual_seed(0)
    head = {"head_type": "catmlp+dpt", "output_mode": "pts3d+desc6", "two_confs": True}
    return DUSt3R(DUSt3RConfig(**SIZES, **SMALL_DPT, **head)).eval()


def photos(*sizes: tuple[int, int]) -> list[ResizedPhoto]:
    generator = np.random.default_rng(0)
    return [
        ResizedPhoto(
            Photo(Path(f"{k}.png"), f"{k}.png", width, height, None, "one"),
            generator.integers(0, 256, (height, width, 3), np.uint8),
        )
        for k, (height, width) in enumerate(sizes)
    ]


def image(photo: ResizedPhoto) -> torch.Tensor:
    return torch.from_numpy(photo.pixels / 127.5 - 1).float().permute(2, 0, 1)[None]


def encode(network: DUSt3R, shots: list[ResizedPhoto]) -> EncodedPhotos:
    return encode_photos(network, shots, device=CPU, dtype=torch.float32)


def predict(
    network: DUSt3R,
    encoded: EncodedPhotos,
    pairs: list[tuple[int, int]],
    batch_size: int | None = None,
) -> list[PairPrediction]:
    return list(
        predict_pairs(
            network, encoded, pairs, device=CPU, dtype=torch.float32, batch_size=batch_size
        )
    )


def close(found: NDArray, expected: torch.Tensor) -> bool:
    return bool(np.abs(found - expected.numpy()[0]).max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize("batch_size", [1, 2, 5, None])
def test_pairs_are_what_whole_forward_passes_give(network: DUSt3R, batch_size: int | None) -> None:
    shots = photos(LANDSCAPE, PORTRAIT, LANDSCAPE, LANDSCAPE)
    encoded = encode(network, shots)
    pairs = [(0, 1), (0, 2), (1, 2), (2, 3), (1, 1)]
    found = predict(network, encoded, pairs, batch_size)
    directed = {(i, j) for a, b in pairs for i, j in ((a, b), (b, a))}
    assert {(p.i, p.j) for p in found} == directed and len(found) == len(directed)
    for p in found:
        with torch.inference_mode():
            first, second = network(image(shots[p.i]), image(shots[p.j]))
        assert close(p.points_i, first.pts3d) and close(p.confidence_i, first.conf)
        assert close(p.points_j, second.pts3d) and close(p.confidence_j, second.conf)


def test_both_directions_follow_each_other_and_repeats_count_once(
    network: DUSt3R,
) -> None:
    encoded = encode(network, photos(LANDSCAPE, LANDSCAPE, PORTRAIT))
    found = predict(network, encoded, [(1, 0), (0, 1), (2, 0)], batch_size=2)
    assert [(p.i, p.j) for p in found] == [(0, 1), (1, 0), (0, 2), (2, 0)]


def test_a_photo_with_itself_is_decoded_once(
    network: DUSt3R, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = network.decode

    def counted(photos1: PhotoTokens, photos2: PhotoTokens) -> DirectedPrediction:
        decoded.append(len(photos1.values))
        return decode(photos1, photos2)

    monkeypatch.setattr(network, "decode", counted)
    encoded = encode(network, photos(LANDSCAPE, PORTRAIT))
    found = predict(network, encoded, [(0, 0), (1, 1)])
    assert [(p.i, p.j) for p in found] == [(0, 0), (1, 1)] and sum(decoded) == 2


def test_local_features_come_with_the_pairs_of_a_network_that_has_them(
    network: DUSt3R, mast3r: DUSt3R
) -> None:
    shots = photos(LANDSCAPE, LANDSCAPE, PORTRAIT)
    for p in predict(mast3r, encode(mast3r, shots), [(0, 1), (0, 2), (1, 2)]):
        with torch.inference_mode():
            sides = mast3r(image(shots[p.i]), image(shots[p.j]))
        assert close(p.points_j, sides.view2.pts3d) and close(p.confidence_i, sides.view1.conf)
        for found, side in zip((p.features_i, p.features_j), sides, strict=True):
            assert found is not None and side.desc is not None and side.desc_conf is not None
            assert found.descriptors.dtype == np.float16 and found.descriptors.base is None
            assert np.abs(found.descriptors - side.desc[0].numpy()).max() < 1e-3
            assert close(found.confidence, side.desc_conf)
    assert predict(network, encode(network, shots), [(0, 1)])[0].features_i is None


def test_what_depends_on_a_photo_alone_is_made_once_for_few_photos(
    mast3r: DUSt3R, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    photo_maps = mast3r.photo_maps

    def counted(photo: PhotoTokens) -> PhotoMaps:
        made.append(len(photo.values))
        return photo_maps(photo)

    monkeypatch.setattr(mast3r, "photo_maps", counted)
    encoded = encode(mast3r, photos(*[(16, 32)] * 24))
    pairs = [(i, j) for j in range(16) for i in range(j)]
    assert len(predict(mast3r, encoded, pairs)) == 240 and sum(made) == 16
    made.clear()
    # More photos than are kept: pairs come in an order that needs few of them again.
    pairs = [(i, j) for j in range(24) for i in range(j)]
    assert len(predict(mast3r, encoded, pairs)) == 552 and sum(made) < 60


def test_predictions_own_float32_arrays(network: DUSt3R) -> None:
    encoded = encode(network, photos(LANDSCAPE, LANDSCAPE))
    for p in predict(network, encoded, [(0, 1)]):
        for array in (p.points_i, p.confidence_i, p.points_j, p.confidence_j):
            # A view would keep its batch in memory as long as the prediction lives.
            assert array.dtype == np.float32 and array.flags.c_contiguous and array.base is None
        assert p.points_i.shape == (32, 48, 3) and p.confidence_i.shape == (32, 48)
        assert p.confidence_i.min() >= 1


def test_every_photo_is_encoded_once_and_pairs_are_made_on_demand(
    network: DUSt3R, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    decoded: list[int] = []
    encode_once, decode = network.encode, network.decode

    def counted_encode(images: torch.Tensor) -> PhotoTokens:
        seen.append(len(images))
        return encode_once(images)

    def counted_decode(photos1: PhotoTokens, photos2: PhotoTokens) -> DirectedPrediction:
        decoded.append(len(photos1.values))
        return decode(photos1, photos2)

    monkeypatch.setattr(network, "encode", counted_encode)
    monkeypatch.setattr(network, "decode", counted_decode)
    encoded = encode(network, photos(*[LANDSCAPE] * 5, PORTRAIT))
    assert sum(seen) == 6
    pairs = [(i, j) for j in range(6) for i in range(j)]
    stream = predict_pairs(network, encoded, pairs, device=CPU, batch_size=4)
    next(stream)
    assert sum(decoded) == 4
    assert len(list(stream)) == 29 and sum(decoded) == 30 and sum(seen) == 6


def test_two_workers_give_what_one_gives(mast3r: DUSt3R) -> None:
    encoded = encode(mast3r, photos(LANDSCAPE, LANDSCAPE, PORTRAIT))
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(predict(mast3r, encoded, [(0, 1), (0, 2), (1, 2)]))
            assert torch.get_num_threads() == threads
            # A thread started later is none of the workers.
            later = ThreadPoolExecutor(1).submit(torch.get_num_threads).result()
            assert later == threads
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*made, strict=True):
        assert (one.i, one.j) == (two.i, two.j)
        np.testing.assert_allclose(one.points_j, two.points_j, rtol=1e-4, atol=1e-5)


def test_gradients_stay_on_between_predictions(network: DUSt3R) -> None:
    encoded = encode(network, photos(LANDSCAPE, LANDSCAPE))
    stream = predict_pairs(network, encoded, [(0, 1)], device=CPU)
    next(stream)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_tokens_are_those_of_each_photo_by_itself(network: DUSt3R) -> None:
    shots = photos(LANDSCAPE, PORTRAIT, LANDSCAPE)
    encoded = encode(network, shots)
    assert encoded.sizes == (LANDSCAPE, PORTRAIT, LANDSCAPE)
    for k, shot in enumerate(shots):
        with torch.inference_mode():
            tokens = network.encode(image(shot)).values[0]
        assert torch.allclose(encoded.tokens[k], tokens, atol=1e-4)


def test_bfloat16_is_close_to_float32(network: DUSt3R) -> None:
    shots = photos(LANDSCAPE, LANDSCAPE)
    exact = predict(network, encode(network, shots), [(0, 1)])
    encoded = encode_photos(network, shots, device=CPU, dtype=torch.bfloat16)
    assert encoded.tokens[0].dtype == torch.bfloat16
    rough = predict_pairs(network, encoded, [(0, 1)], device=CPU, dtype=torch.bfloat16)
    for a, b in zip(rough, exact, strict=True):
        assert a.points_i.dtype == np.float32
        assert np.linalg.norm(a.points_i - b.points_i) < 0.03 * np.linalg.norm(b.points_i)
        assert np.abs(np.log(a.confidence_j / b.confidence_j)).max() < 0.1


def test_the_same_run_twice_is_bit_for_bit_the_same(network: DUSt3R) -> None:
    shots = photos(LANDSCAPE, PORTRAIT, LANDSCAPE)
    runs = [predict(network, encode(network, shots), [(0, 1), (0, 2)]) for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        assert np.array_equal(a.points_j, b.points_j)
        assert np.array_equal(a.confidence_i, b.confidence_i)


def test_overflow_becomes_the_lowest_confidence(network: DUSt3R) -> None:
    torch.manual_seed(1)
    wild = DUSt3R(network.config).eval()
    wild.state_dict()["downstream_head1.proj.weight"].mul_(60)
    (p, _) = predict(wild, encode(wild, photos(LANDSCAPE, LANDSCAPE)), [(0, 1)])
    assert np.isfinite(p.points_i).all() and np.isfinite(p.confidence_i).all()
    taken_out = (p.points_i == 0).all(axis=-1)
    assert 0 < taken_out.sum() < taken_out.size
    assert (p.confidence_i[taken_out] == 1).all()


def test_progress_reaches_the_total(network: DUSt3R) -> None:
    calls: list[tuple[int, int]] = []
    shots = photos(LANDSCAPE, PORTRAIT, LANDSCAPE)
    encoded = encode_photos(
        network, shots, device=CPU, batch_size=1, on_progress=lambda *c: calls.append(c)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    calls.clear()
    pairs = [(0, 1), (0, 2), (1, 2)]
    stream = predict_pairs(
        network, encoded, pairs, device=CPU, batch_size=2, on_progress=lambda *c: calls.append(c)
    )
    assert len(list(stream)) == 6
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_wrong_input_is_refused(network: DUSt3R) -> None:
    with pytest.raises(InputError, match="no photo"):
        encode(network, [])
    encoded = encode(network, photos(LANDSCAPE))
    with pytest.raises(ValueError, match="1 encoded"):
        predict(network, encoded, [(0, 1)])


def test_devices_and_precision() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device().type in {"cuda", "mps", "cpu"}
    for name in ("cuda:99", "toaster", "meta"):
        with pytest.raises(InputError, match="this machine has cpu"):
            choose_device(name)
    assert choose_dtype(torch.device("mps")) == torch.float32


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"avx2", "avx512f"}, torch.float32),
        ({"avx512f", "avx512_bf16"}, torch.bfloat16),
        ({"amx_tile", "amx_bf16"}, torch.bfloat16),
        (set(), torch.float32),
    ],
)
def test_precision_follows_the_instruction_set(
    flags: set[str], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointmap.devices._cpu_flags", lambda: frozenset(flags))
    assert choose_dtype(CPU) == dtype


def test_what_is_kept_of_the_photos_goes_with_the_last_pair(
    mast3r: DUSt3R, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[weakref.ref[torch.Tensor]] = []
    photo_maps = mast3r.photo_maps

    def watched(photo: PhotoTokens) -> PhotoMaps:
        maps = photo_maps(photo)
        assert maps.head1 is not None and maps.head2 is not None
        kept.extend(weakref.ref(x) for x in (*maps.head1, *maps.head2))
        return maps

    monkeypatch.setattr(mast3r, "photo_maps", watched)
    encoded = encode(mast3r, photos(LANDSCAPE, LANDSCAPE))
    gc.disable()
    try:
        assert len(predict(mast3r, encoded, [(0, 1)])) == 2
        assert len(kept) == 4 and all(ref() is None for ref in kept)
    finally:
        gc.enable()
