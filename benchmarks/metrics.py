"""Metrics at scale: exact against the usual loop over thresholds, streaming in bounded memory, the bootstrap.

    python benchmarks/metrics.py

Images are generated. Each comparison is interleaved in one process (A B A B ...).

Shapes: H, W height and width.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from few_shot import RESULTS, stamp
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from usual_metrics import THRESHOLDS, Map, Mask, exact_aupro, others, usual_loop

from sowa.metrics import (
    PixelBootstrap,
    PixelMetrics,
    PixelMetricsResult,
    bootstrap_images,
    image_metrics,
    pixel_metrics,
)

ROUNDS, RESAMPLES = 3, 1000
N_MAPS, SIDE = 100, 336
STREAM_MAPS, STREAM_SIDE = 2000, 256
EXACT = {"max_scores": 2**24, "buffer_pixels": 2**24, "image_rates": False}  # room for every pixel of the 100 maps
AVX2 = "NPY_DISABLE_CPU_FEATURES=AVX512_SKX AVX512_ICL AVX512_SPR X86_V4"


def images(count: int, side: int, seed: int = 0) -> Iterator[tuple[Map, Mask]]:
    """Smooth maps with a soft rise on most defects; in turn no defect, one, up to six, and touching ones."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.normal(size=(side, side)), 4) for _ in range(20)]
    y_HW, x_HW = np.mgrid[:side, :side]
    for index in range(count):
        mask_HW = np.zeros((side, side), bool)
        for _ in range((0, 1, rng.integers(2, 7), 1)[index % 4]):
            y, x = rng.integers(0, side, 2)
            radius = rng.integers(2, side // 10)
            mask_HW |= (y_HW - y) ** 2 + (x_HW - x) ** 2 < radius**2
            if index % 4 == 3:  # a square that meets the disc's bounding box in one corner, and one across its border
                mask_HW[y + radius : y + 2 * radius, x + radius : x + 2 * radius] = True
                mask_HW[y : y + 3, max(x - 2 * radius, 0) : x] = True
        logit_HW = 8 * fields[index % 20] * rng.uniform(0.8, 1.2) + rng.uniform(0, 3) * gaussian_filter(
            mask_HW.astype(float), 3
        )
        yield (1 / (1 + np.exp(2 - logit_HW))).astype(np.float32), mask_HW


def ours(maps: list[Map], masks: list[Mask], **options: Any) -> PixelMetricsResult:
    metrics = PixelMetrics(**options)
    for map_HW, mask_HW in zip(maps, masks, strict=True):
        metrics.update(map_HW, mask_HW)
    return metrics.compute()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def interleaved(calls: dict[str, Callable[[], Any]]) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each call in each round, and what it returned last."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            taken, results[name] = timed(call)
            seconds[name].append(taken)
            print(f"{name}: {taken:.2f} s", flush=True)
    return seconds, results


def each(seconds: Iterable[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in seconds)


def spread(slow: NDArray[np.float64], fast: list[float]) -> str:
    ratios = slow / np.array(fast)
    return f"{np.median(ratios):.1f} x ({ratios.min():.1f} to {ratios.max():.1f})"


def against_the_loop() -> list[str]:
    maps, masks = (list(many) for many in zip(*images(N_MAPS, SIDE), strict=True))
    settings = {
        "exact": EXACT,
        "default": {"image_rates": False},
        "streaming": {"max_scores": 2**16, "image_rates": False},
    }
    calls: dict[str, Callable[[], Any]] = {
        name: partial(ours, maps, masks, **options) for name, options in settings.items()
    }
    calls |= {"loop": partial(usual_loop, maps, masks), "others": partial(others, maps, masks)}
    ours(maps[:2], masks[:2])  # imports are nobody's time
    seconds, results = interleaved(calls)
    truth = {**results["others"], "pixel_AUPRO": exact_aupro(maps, masks)}
    exact = {name: float(value) for name, value in results["exact"].metrics().items()}
    off = max(abs(exact[name] - value) for name, value in truth.items())
    if off > 1e-6 or results["exact"].resolution:
        raise SystemExit(f"ours is {off} off the oracle")
    loop = np.array(seconds["loop"])
    both = loop + seconds["others"]
    aupro = truth["pixel_AUPRO"]
    rows = [
        f"| {name} | {each(seconds[name])} | {spread(loop, seconds[name])} | {spread(both, seconds[name])} "
        f"| {float(results[name].pixel_AUPRO) - aupro:+.1e} | {results[name].pixel_AUPRO.error_bound:.1e} |"
        for name in settings
    ]
    n_pixels = N_MAPS * SIDE**2
    return [
        f"{N_MAPS} maps of {SIDE} x {SIDE}, {results['exact'].n_regions} regions, "
        f"{100 * results['exact'].n_anomalous_pixels / n_pixels:.1f} % of the pixels anomalous; {ROUNDS} rounds, "
        "interleaved.",
        f"The loop: {THRESHOLDS} equidistant thresholds, `skimage.measure.label` and `regionprops` of every image at",
        "each; AUPRO alone. Others: AUROC, AP and F1 by scikit-learn. Ours: all four metrics at once.",
        "",
        "| | seconds, each round | AUPRO - exact |",
        "|---|---|---|",
        f"| loop | {each(loop)} | {results['loop'] - aupro:+.1e} |",
        f"| others | {each(seconds['others'])} | – |",
        "",
        "| ours | seconds, each round | faster than the loop | than loop and others | AUPRO - exact | its bound |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {name}: `PixelMetrics({', '.join(f'{k}={v}' for k, v in of.items())})`" for name, of in settings.items()),
        "",
        f"Exact AUPRO {aupro:.6f}: all distinct thresholds, as scikit-learn's recall of pixels that weigh one over "
        "their region's",
        f"size. The largest difference of our exact metrics from scikit-learn's is {off:.1e}.",
        "",
        "Two thirds of our exact time is numpy's sort, on this machine slower with AVX-512 than with AVX2. Exact with",
        f"`{AVX2}`, in a process of its own: {each(exact_seconds(AVX2))} s.",
    ]


def exact_seconds(setting: str) -> list[float]:
    """Seconds of the exact metrics in each round, in another process with an environment variable set."""
    code = (
        "import metrics as m; maps, masks = zip(*m.images(m.N_MAPS, m.SIDE)); m.ours(maps[:2], masks[:2]);"
        "print(*(m.timed(m.partial(m.ours, maps, masks, **m.EXACT))[0] for _ in range(m.ROUNDS)))"
    )
    name, _, value = setting.partition("=")
    command = [sys.executable, "-W", "ignore", "-c", code]
    out = subprocess.check_output(command, text=True, env={**os.environ, name: value}, cwd=Path(__file__).parent)
    return [float(one) for one in out.split()]


def streamed(max_scores: int) -> tuple[float, PixelMetricsResult]:
    """Seconds in `sowa.metrics` alone, without making the images."""
    metrics, seconds = PixelMetrics(max_scores, image_rates=False), 0.0
    for map_HW, mask_HW in images(STREAM_MAPS, STREAM_SIDE, seed=1):
        seconds += timed(partial(metrics.update, map_HW, mask_HW))[0]
    last, result = timed(metrics.compute)
    return seconds + last, result


def peak_of(call: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the most that Python and numpy held at once, in MiB."""
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak / 2**20


def streaming() -> list[str]:
    calls = {str(limit): partial(streamed, limit) for limit in (2**14, 2**17, 2**22)}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            taken, result = call()
            seconds[name].append(taken)
            print(f"max_scores {name}: {taken:.2f} s", flush=True)
    millions = STREAM_MAPS * STREAM_SIDE**2 / 1e6
    rows = []
    for name, call in calls.items():
        (_, result), peak = peak_of(call)
        bound = max(value.error_bound or 0.0 for value in result.metrics().values())
        rows.append(
            f"| {name} | {each(seconds[name])} | {millions / np.median(seconds[name]):.0f} | {peak:.0f} MiB "
            f"| {float(result.pixel_AUPRO):.6f} | {bound:.1e} |"
        )
    return [
        f"{STREAM_MAPS} maps of {STREAM_SIDE} x {STREAM_SIDE}, {millions:.0f} million scores; {ROUNDS} rounds, "
        "interleaved. Memory: the most that Python and",
        "numpy held at once (tracemalloc, in a run of its own), the image at hand included.",
        "",
        "| max_scores | seconds, each round | million pixels a second | memory | AUPRO | largest error bound |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def resampling() -> list[str]:
    maps, masks = (list(many) for many in zip(*images(N_MAPS, SIDE), strict=True))
    scores, labels = np.array([one.max() for one in maps]), np.array([one.any() for one in masks])
    drawn = np.random.default_rng(0).integers(0, N_MAPS, (RESAMPLES, N_MAPS))

    def pixel_intervals() -> Any:
        accumulator = PixelBootstrap()
        for map_HW, mask_HW in zip(maps, masks, strict=True):
            accumulator.update(map_HW, mask_HW)
        return accumulator.intervals(RESAMPLES)

    def one_resample() -> Any:
        return pixel_metrics([maps[i] for i in drawn[0]], [masks[i] for i in drawn[0]])

    seconds, results = interleaved(
        {
            "image": partial(bootstrap_images, scores, labels, RESAMPLES),
            "image, loop": lambda: [image_metrics(scores[chosen], labels[chosen]) for chosen in drawn],
            "pixel": pixel_intervals,
            "pixel, loop": one_resample,
        }
    )
    bounds = ", ".join(f"{name[6:]} {one.error_bound:.1e}" for name, one in results["pixel"].items())
    return [
        f"The same {N_MAPS} maps, {RESAMPLES} resamples; {ROUNDS} rounds, interleaved. The loop puts each resample "
        "together and measures it anew.",
        "",
        "| | seconds, each round |",
        "|---|---|",
        f"| image metrics | {each(seconds['image'])} |",
        f"| image metrics, loop | {each(seconds['image, loop'])} |",
        f"| pixel metrics, counting included | {each(seconds['pixel'])} |",
        f"| pixel metrics, loop, one resample of {RESAMPLES} | {each(seconds['pixel, loop'])} |",
        "",
        f"How far the ends of the pixel intervals can be off because scores were binned: {bounds}.",
    ]


def main() -> None:
    lines = [
        "# Metrics at scale",
        "",
        f"{stamp()} One thread.",
        "",
        "    OMP_NUM_THREADS=1 python benchmarks/metrics.py",
    ]
    for title, section in (
        ("Exact against the usual loop", against_the_loop),
        ("Streaming", streaming),
        ("Bootstrap", resampling),
    ):
        lines += ["", f"## {title}", "", *section()]
    (RESULTS / "metrics.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
