"""What thresholds from normal images alone keep of their promise: false alarms among normal images never seen.

    python benchmarks/threshold.py --data DIR

DIR as in few_shot.py. Of up to POOL normal images, 4, 16 and 50 are drawn as references, many times; each draw's
thresholds for several false-positive rates come from these references alone, left out of the bank in turn, and are held
against all the other normal images of the pool, and against ANOMALOUS anomalous ones. Few references are known by
their views too, as `sowa fit` has it; of more, distances to every image of the pool are computed once, so that a draw
costs a minimum.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from few_shot import DATASETS, RESULTS, stamp
from torch import Tensor

from sowa import Sowa
from sowa.core.calibration import Calibration, at_rate
from sowa.core.memory import MemoryBank
from sowa.core.normal_range import range_of_references
from sowa.core.scoring import judge_few_shot
from sowa.core.types import ABNORMAL, NORMAL, Features, Sample
from sowa.data import draw, load
from sowa.data.batches import read_batches
from sowa.data.sources import ImageSource, sample_sources
from sowa.detector.leave_one_out import Scores
from sowa.detector.references import FEW, FeatureCache, Selection, build

POOL, ANOMALOUS, DRAWS = 160, 80, 30
SHOTS, RATES = (4, 16, 50), (0.01, 0.05, 0.1)
Search = Callable[[int, int | None], tuple[Tensor, float]]
"""Distances (L, 1, P) of the image of a number, and what its zero-shot score counts beside them; the other number is
that of a reference which doesn't count."""


@dataclass(frozen=True)
class Product:
    """The ``normal`` images of the pool, what was ``seen`` of them and then of the anomalous ones, and how far each
    lies from every image of the pool, N times (L, P, K)."""

    normal: list[ImageSource]
    seen: list[Features]
    apart: list[Tensor]

    @classmethod
    def of(cls, detector: Sowa, samples: Sequence[Sample]) -> Product:
        normal, anomalous = (
            sample_sources(draw(some, min(len(some), at_most), 0))
            for some, at_most in (
                ([sample for sample in samples if sample.label == NORMAL], POOL),
                ([sample for sample in samples if sample.label == ABNORMAL], ANOMALOUS),
            )
        )
        broken: list[tuple[str, str]] = []
        batches = read_batches(normal + anomalous, detector.image_size, 1, broken)
        seen = [detector.encoder.encode(batch.images) for batch in batches]
        if broken:
            raise SystemExit(f"{broken[0][0]}: {broken[0][1]}")
        bank = MemoryBank.build([one.patches for one in seen[: len(normal)]], len(normal))
        return cls(normal, seen, [bank.distances_by_image(one.patches)[:, 0].half() for one in seen])

    def search(self, detector: Sowa, cache: FeatureCache, columns: Sequence[int]) -> Search:
        """The images of the pool in ``columns`` as references."""
        if len(columns) > FEW:
            return lambda number, leave_out: (self._nearest(number, [c for c in columns if c != leave_out]), 0.0)
        drawn = [self.normal[column] for column in columns]
        selection = Selection(len(drawn), 1, augment="auto")
        bank = build(detector.encoder, drawn, selection, cache=cache).bank

        def searched(number: int, leave_out: int | None) -> tuple[Tensor, float]:
            left_out = None if leave_out is None else columns.index(leave_out)
            distances = bank.distances(self.seen[number].patches, left_out, detector.encoder.precision)
            return distances, bank.zero_shot_weight

        return searched

    def _nearest(self, number: int, columns: Sequence[int]) -> Tensor:
        nearest: Tensor = self.apart[number][..., list(columns)].float().amin(dim=-1)[:, None]
        return nearest

    def scores(self, detector: Sowa, search: Search, numbers: Iterable[int], own: bool = False) -> Scores:
        """Of images, each without ``own`` place among the references."""
        scores = Scores()
        for number in numbers:
            distances, weight = search(number, number if own else None)
            judgement = judge_few_shot(self.seen[number], distances, detector.encoder.config, zero_shot_weight=weight)
            scores.add(judgement)
        return scores


def promise(calibration: Calibration, rate: float, normal: Scores, anomalous: Scores) -> tuple[float, ...]:
    """Shares of normal images called, of those with a lit pixel, and of anomalous images called."""
    there = at_rate(calibration, rate)
    return (
        above(normal.raw_scores, there.threshold),
        above(normal.map_maxima, there.pixel_threshold),
        above(anomalous.raw_scores, there.threshold),
    )


def above(values: Sequence[float], limit: float) -> float:
    return float(np.mean(np.array(values) > limit))


@torch.inference_mode()
def rows(category: str, detector: Sowa, samples: Sequence[Sample]) -> list[str]:
    product, cache, lines = Product.of(detector, samples), FeatureCache(detector.encoder), list[str]()
    pool, anomalous = range(len(product.normal)), range(len(product.normal), len(product.seen))
    for shots in (shots for shots in SHOTS if shots + 20 <= len(pool)):
        found: dict[float, list[tuple[float, ...]]] = {rate: [] for rate in RATES}
        for seed in range(DRAWS):
            columns = draw(pool, shots, seed)
            search = product.search(detector, cache, columns)
            left_out = product.scores(detector, search, columns, own=True)
            image, pixel = (range_of_references(v, shots) for v in (left_out.raw_scores, left_out.map_maxima))
            calibration = Calibration(image=image, pixel=pixel)
            unseen = product.scores(detector, search, [number for number in pool if number not in columns])
            bad = product.scores(detector, search, anomalous)
            for rate in RATES:
                found[rate].append(promise(calibration, rate, unseen, bad))
        for rate, shares in found.items():
            cells = [
                f"{100 * np.mean(x):.1f} ({100 * np.min(x):.0f}–{100 * np.max(x):.0f})" for x in np.transpose(shares)
            ]
            lines.append(f"| {category} | {shots} | {100 * rate:g} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    data = parser.parse_args().data
    detector = Sowa.from_pretrained("mini")
    text = [
        "# Thresholds from normal images alone",
        "",
        stamp(),
        f"Backbone mini. {DRAWS} draws of references among up to {POOL} normal images of both splits; unseen are the",
        f"others, and up to {ANOMALOUS} anomalous ones. Four references are known by their views too, as `sowa fit`",
        "has it. In percent: mean over draws, in brackets lowest and highest.",
        "",
        "    python benchmarks/threshold.py --data DATA",
        "",
        "| category | references | target | normal called | normal with a lit pixel | anomalous called |",
        "|---|---|---|---|---|---|",
    ]
    for dataset, folder, category in DATASETS:
        text += rows(category, detector, load(dataset, f"{data}/{folder}", category))
        (RESULTS / "threshold.md").write_text("\n".join([*text, ""]))


if __name__ == "__main__":
    main()
