"""Inference against the reference's way: photos, precisions, attention kernels, CUDA graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_stages.row import Row, StageOptions
from benchmarks.inference import (
    NETWORKS,
    Meter,
    benchmark_network,
    benchmark_photos,
    compare,
    our_way,
)
from pointmap.network import DUSt3RConfig, PointmapNetwork, build_network

PRECISIONS = {
    "fp32": (torch.float32, False),
    "tf32": (torch.float32, True),
    "bf16": (torch.bfloat16, True),
    "fp16": (torch.float16, True),
}
"""What ours runs in, and whether float32 products may use TF32, the reference's too."""
MANY = 24
_REFERENCE_PAIRS = 32
_ATTENTION = ("MATH", "EFFICIENT_ATTENTION", "FLASH_ATTENTION", "CUDNN_ATTENTION")
_TINY = DUSt3RConfig(
    img_size=(64, 64), enc_embed_dim=32, enc_depth=1, enc_num_heads=2, dec_embed_dim=32,
    dec_depth=1, dec_num_heads=2, head_type="linear",
)  # fmt: skip


def rows(options: StageOptions) -> Iterator[Row]:
    """Yield rates in ordered pairs a second, most wanted first, and what memory they need."""
    networks = ["tiny"] if options.tiny else list(NETWORKS)
    counts = [2, 3] if options.tiny else [2, 8, 16, 32]
    for name in networks:
        network, size = _network(name)
        network.requires_grad_(False).to(options.device).eval()
        yield from _many_photos(name, network, size, options)
        for count in counts:
            for precision in PRECISIONS:
                if options.tiny and precision == "fp16":
                    continue  # CPUs have no half-precision products worth the name
                yield from _both_ways(name, network, size, count, precision, options.device)
        yield from _kernels(name, network, size, options.device)
        yield from _graph(name, network, size, options.device)


def _network(name: str) -> tuple[PointmapNetwork, tuple[int, int]]:
    if name != "tiny":
        return benchmark_network(name)
    torch.manual_seed(0)
    return build_network(_TINY), (48, 64)


@contextlib.contextmanager
def _tf32(on: bool) -> Iterator[None]:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32
    cuda.allow_tf32 = cudnn.allow_tf32 = on
    try:
        yield
    finally:
        cuda.allow_tf32, cudnn.allow_tf32 = before


def _both_ways(
    name: str,
    network: PointmapNetwork,
    size: tuple[int, int],
    count: int,
    precision: str,
    device: torch.device,
) -> Iterator[Row]:
    dtype, tf32 = PRECISIONS[precision]
    with _tf32(tf32):
        photos = benchmark_photos([], count, size)
        theirs, ours = compare(name, network, photos, device, _REFERENCE_PAIRS, dtype)
    what = f"{name}, {count} photos, {precision}"
    yield Row(f"{what}: reference", theirs.pairs_per_second, "pairs/s")
    goal = "2 x reference" if precision in ("fp32", "tf32") else "above fp32's"
    yield Row(f"{what}: ours", ours.pairs_per_second, "pairs/s", goal)
    yield Row(f"{what}: gain", ours.pairs_per_second / theirs.pairs_per_second, "times")
    yield Row(f"{what}: memory", ours.peak_gb, "GB")


def _many_photos(
    name: str, network: PointmapNetwork, size: tuple[int, int], options: StageOptions
) -> Iterator[Row]:
    """Yield what all pairs of the photos of a usual scene take, in the default precision."""
    count = 4 if options.tiny else MANY
    photos, meter = benchmark_photos([], count, size), Meter(options.device)
    pairs = list(combinations(range(count), 2))
    our_way(network, photos[:2], [(0, 1)], options.device)
    with meter.running():
        our_way(network, photos, pairs, options.device)
    yield Row(f"{name}, {count} photos, all pairs", meter.seconds, "s", "20 with all the rest")
    yield Row(f"{name}, {count} photos, all pairs: memory", meter.peak_gb, "GB", "8")


def _kernels(
    name: str, network: PointmapNetwork, size: tuple[int, int], device: torch.device
) -> Iterator[Row]:
    """Yield the rate with each kernel of attention alone, in the default precision."""
    photos, pairs = benchmark_photos([], 4, size), list(combinations(range(4), 2))
    for kernel in _ATTENTION:
        meter = Meter(device)
        try:
            with sdpa_kernel(getattr(SDPBackend, kernel)):
                our_way(network, photos[:2], [(0, 1)], device)
                with meter.running():
                    our_way(network, photos, pairs, device)
        except RuntimeError as error:  # this card, or this build, has no such kernel
            yield Row(f"{name}, attention {kernel}", str(error).splitlines()[0])
            continue
        yield Row(f"{name}, attention {kernel}", 2 * len(pairs) / meter.seconds, "pairs/s")


def _graph(
    name: str, network: PointmapNetwork, size: tuple[int, int], device: torch.device
) -> Iterator[Row]:
    """Yield the rate of decoding four pairs over and over, and that of a CUDA graph of it."""
    images = torch.rand(4, 3, *size, device=device)
    with torch.inference_mode():
        photos = network.encode(images)
        others = replace(photos, values=photos.values.flip(0))

        def decode() -> None:
            network.decode_both(photos, others)

        yield Row(f"{name}, decoding 4 pairs", 8 / _seconds(decode, device), "pairs/s")
        if device.type != "cuda":
            yield Row(f"{name}, as a CUDA graph", "needs CUDA")
            return
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                decode()
        except RuntimeError as error:  # something that a graph cannot hold
            yield Row(f"{name}, as a CUDA graph", str(error).splitlines()[0])
            return
        yield Row(f"{name}, as a CUDA graph", 8 / _seconds(graph.replay, device), "pairs/s")


def _seconds(call: Callable[[], None], device: torch.device, times: int = 10) -> float:
    """Return the mean of ``times`` calls, after three."""
    for _ in range(3):
        call()
    meter = Meter(device)
    with meter.running():
        for _ in range(times):
            call()
    return meter.seconds / times
