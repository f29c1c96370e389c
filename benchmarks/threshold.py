"""What thresholds from normal pictures alone keep of their promise: false alarms among normal pictures never seen.

    python benchmarks/threshold.py --data DIR

DIR as in few_shot.py. Of up to POOL normal pictures, 4, 16 and 50 are drawn as references, many times; each draw's
thresholds for several false-positive rates come from these references alone, left out of the bank in turn, and are held
against all the other normal pictures of the pool, and against ANOMALOUS anomalous ones. Distances to every picture of
the pool are computed once, so that a draw costs a minimum.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from few_shot import DATASETS, RESULTS, stamp
from torch import Tensor

from sowa import Sowa
from sowa.calibration import at_rate, from_references
from sowa.data import draw, load
from sowa.data.stream import read_batches, sample_pictures
from sowa.memory import MemoryBank
from sowa.scoring import few_shot_map, top_mean, zero_shot_map
from sowa.types import ABNORMAL, NORMAL, Calibration, Observation, Sample

POOL, ANOMALOUS, DRAWS = 160, 80, 30
SHOTS, RATES = (4, 16, 50), (0.01, 0.05, 0.1)
Values = tuple[Tensor, Tensor]  # raw scores and map maxima (N,)


@dataclass(frozen=True)
class Group:
    """Pictures of one kind: distances to every picture of the pool (N, L, P, K) and prompts' maps (N, H, W)."""

    distances: Tensor
    zero_shot: Tensor

    def values(self, columns: Sequence[int], detector: Sowa, own: bool = False) -> Values:
        """Raw scores and map maxima (N,) against a bank of ``columns``; ``own`` leaves each picture itself out."""
        raw, maxima = [], []
        for index, (distances, zero_shot) in enumerate(zip(self.distances, self.zero_shot, strict=True)):
            kept = [column for column in columns if not own or column != columns[index]]
            nearest = distances[..., kept].float().amin(dim=-1)[:, None]
            grid = (round(nearest.shape[-1] ** 0.5),) * 2
            fused = few_shot_map(nearest, grid, detector.image_size) + zero_shot
            raw.append(top_mean(nearest.sum(dim=0)))
            maxima.append(fused.amax(dim=(1, 2)))
        return torch.cat(raw), torch.cat(maxima)

    def of(self, rows: Sequence[int]) -> Group:
        return Group(self.distances[list(rows)], self.zero_shot[list(rows)])


def observations(detector: Sowa, samples: Sequence[Sample]) -> list[Observation]:
    wanted = sample_pictures(samples)
    return [
        detector.observe(batch.images)
        for batch in read_batches(wanted, detector.image_size, 1, lambda picture, why: print(picture.name, why))
    ]


def group(detector: Sowa, bank: MemoryBank, seen: Sequence[Observation]) -> Group:
    config = detector.network.config
    with torch.inference_mode():
        distances = [bank.distances_by_image(one.patches)[:, 0].half() for one in seen]
        maps = [config.prompt.map_weight * zero_shot_map(one.level_maps or (), config.sigma) for one in seen]
    return Group(torch.stack(distances), torch.cat(maps))


def groups(detector: Sowa, samples: Sequence[Sample]) -> tuple[Group, Group]:
    """Normal pictures of both splits, and anomalous ones."""
    normal, anomalous = (
        draw(some, min(len(some), at_most), 0)
        for some, at_most in (
            ([sample for sample in samples if sample.label == NORMAL], POOL),
            ([sample for sample in samples if sample.label == ABNORMAL], ANOMALOUS),
        )
    )
    seen = observations(detector, normal)
    bank = MemoryBank.build([one.patches for one in seen], len(seen))
    return group(detector, bank, seen), group(detector, bank, observations(detector, anomalous))


def promise(calibration: Calibration, rate: float, normal: Values, anomalous: Values) -> tuple[float, ...]:
    """Shares of normal pictures called, of those with a lit pixel, and of anomalous pictures called."""
    there = at_rate(calibration, rate)
    lit = (normal[1] > there.pixel_threshold).float().mean()
    return tuple(
        float(share)
        for share in (
            (normal[0] > there.threshold).float().mean(),
            lit,
            (anomalous[0] > there.threshold).float().mean(),
        )
    )


def rows(category: str, detector: Sowa, samples: Sequence[Sample]) -> list[str]:
    pool, anomalous = groups(detector, samples)
    everything = range(len(pool.distances))
    lines = []
    for shots in (shots for shots in SHOTS if shots + 20 <= len(everything)):
        found: dict[float, list[tuple[float, ...]]] = {rate: [] for rate in RATES}
        for seed in range(DRAWS):
            columns = draw(everything, shots, seed)
            unseen = [index for index in everything if index not in columns]
            left_out = pool.of(columns).values(columns, detector, own=True)
            calibration = from_references(left_out[0].tolist(), left_out[1].tolist(), shots)
            judged = pool.of(unseen).values(columns, detector), anomalous.values(columns, detector)
            for rate in RATES:
                found[rate].append(promise(calibration, rate, *judged))
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
        "# Thresholds from normal pictures alone",
        "",
        stamp(),
        f"Backbone mini. {DRAWS} draws of references among up to {POOL} normal pictures of both splits; unseen are the",
        f"others, and up to {ANOMALOUS} anomalous ones. In percent: mean over draws, in brackets lowest and highest.",
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
