"""What could be done about few-shot accuracy without training, and what each way is worth.

    python benchmarks/options.py --data DIR [--name NAME] [--at-most N] [--development]

DIR as in few_shot.py; with --development its folder of auxiliary data, on which options are chosen. Images are seen
once; every option is then a way to lay out the memory bank or to read its distances.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from few_shot import DATASETS, RESULTS, stamp
from numpy.typing import NDArray
from torch import Tensor

from sowa import Sowa
from sowa.core.memory import MemoryBank, normalise
from sowa.core.scoring import few_shot_map, few_shot_scores, top_mean
from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data import choose_references, load, read_image, read_mask_at, resize_image, split
from sowa.metrics import PixelMetrics, image_metrics

SHOTS, SEEDS = 4, (0, 1, 2)
SIDE = 192  # maps are compared with masks at this size: half the backbone's, for speed
DEVELOPMENT = (
    ("pairs", "auxiliary", "glass174"),
    ("pairs", "auxiliary", "kolektorsdd"),
    ("pairs", "auxiliary", "sdu_fibre"),
)


@dataclass
class Scene:
    """A category: patches of references (L, K, P, E) and of test images; labels, masks, and what each seed drew."""

    references: Tensor
    test: Tensor
    labels: list[bool]
    masks: list[NDArray[np.bool_]]
    drawn: dict[int, list[int]]


def see(detector: Sowa, images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Unit patches (L, N, P, E) of images of any size."""
    parts = [
        normalise(
            detector.encoder.encode(
                resize_image(np.ascontiguousarray(image), detector.image_size)[None], prompts=False
            ).patches
        )
        for image in images
    ]
    return torch.cat(parts, dim=1)


def scene(detector: Sowa, samples: Sequence[Sample], at_most: int) -> Scene:
    normal = [sample for sample in split(samples, "train") if sample.label == NORMAL]
    drawn = {seed: choose_references(samples, min(SHOTS, len(normal)), seed) for seed in SEEDS}
    references = list({sample.image_path: sample for seed in SEEDS for sample in drawn[seed]}.values())
    test = [sample for sample in split(samples, "test") if sample.label is not None]
    test = test[:: -(-len(test) // at_most)]
    return Scene(
        references=see(detector, [read_image(sample.image_path) for sample in references]),
        test=see(detector, [read_image(sample.image_path) for sample in test]),
        labels=[sample.label == ABNORMAL for sample in test],
        masks=[read_mask_at(sample.mask_path, (SIDE, SIDE)) for sample in test],
        drawn={seed: [references.index(sample) for sample in drawn[seed]] for seed in SEEDS},
    )


def distances(bank: Tensor, query: Tensor) -> Tensor:
    """(L, N, P) of unit patches (L, N, P, E) to a bank (L, K, P', E)."""
    memory = MemoryBank(bank)
    return torch.cat([memory.distances(tuple(part)) for part in query.split(4, dim=1)], dim=1)


def pooled(patches: Tensor) -> Tensor:
    """Each patch with its eight neighbours averaged."""
    levels, count, number, width = patches.shape
    side = round(number**0.5)
    grid = patches.permute(0, 1, 3, 2).reshape(-1, width, side, side)
    mean = F.avg_pool2d(grid, 3, 1, 1, count_include_pad=False)
    return F.normalize(mean.reshape(levels, count, width, number).transpose(2, 3), dim=-1)


def left_out(bank: Tensor) -> Tensor:
    """Distances of each reference to the others, (L, K, P)."""
    return torch.cat(
        [
            distances(bank[:, [j for j in range(bank.shape[1]) if j != i]], bank[:, i : i + 1])
            for i in range(bank.shape[1])
        ],
        dim=1,
    )


def bounded(bank: Tensor, found: Tensor) -> Tensor:
    """No level counts more than three times what the worst hundredth of normal patches does."""
    limit = 3 * left_out(bank).flatten(1).quantile(0.99, dim=1)
    return torch.minimum(found, limit[:, None, None])


def weighed(bank: Tensor, found: Tensor) -> Tensor:
    """Each level by how far normal patches lie from each other on it."""
    scale = left_out(bank).mean(dim=(1, 2))
    return found / scale[:, None, None] * scale.mean()


def foreground(bank: Tensor, query: Tensor, found: Tensor) -> Tensor:
    """Only patches that differ from the references' border more than half of the references' patches do."""
    side = round(bank.shape[2] ** 0.5)
    index = torch.arange(bank.shape[2])
    edge = (index % side == 0) | (index % side == side - 1) | (index < side) | (index >= side * (side - 1))
    border = F.normalize(bank[-1][:, edge].mean(dim=(0, 1)), dim=-1)
    limit = (bank[-1] @ border).flatten().quantile(0.5)
    return found * ((query[-1] @ border) < limit)


def accuracy(raw: Tensor, patches: Tensor, of: Scene) -> tuple[float, float]:
    side = round(patches.shape[-1] ** 0.5)
    pixels = PixelMetrics(max_scores=2**16)
    maps = few_shot_map(patches, (side, side), (SIDE, SIDE)).numpy()
    for anomaly_map, mask in zip(maps, of.masks, strict=True):
        pixels.update(anomaly_map, mask)
    return float(image_metrics(raw.tolist(), of.labels).image_AUROC), float(pixels.compute().pixel_AUROC)


def measure(of: Scene, seed: int) -> dict[str, tuple[float, float]]:
    bank = of.references[:, of.drawn[seed]]
    found = distances(bank, of.test)
    near = distances(pooled(bank), pooled(of.test))
    ways = {
        "as it is": found,
        "patches averaged with their neighbours": near,
        "both with and without neighbours": found + near,
        "distances bounded": bounded(bank, found),
        "levels weighed by their normal distances": weighed(bank, found),
        "without the first level": found[1:],
        "background left out": foreground(bank, of.test, found),
    }
    results = {name: accuracy(few_shot_scores(patches), patches, of) for name, patches in ways.items()}
    results["levels summed before their highest hundredth is taken"] = accuracy(top_mean(found.sum(dim=0)), found, of)
    results["highest patch instead of the mean of the top 1 %"] = accuracy(found.amax(dim=2).sum(dim=0), found, of)
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", default="options")
    parser.add_argument("--at-most", type=int, default=250, help="test images of a category, evenly chosen")
    parser.add_argument("--development", action="store_true", help="the auxiliary data that options are chosen on")
    arguments = parser.parse_args()
    detector = Sowa.from_pretrained("mini")
    table: dict[str, list[str]] = {}
    sets = DEVELOPMENT if arguments.development else DATASETS
    for dataset, folder, category in sets:
        of = scene(detector, load(dataset, f"{arguments.data}/{folder}", category), arguments.at_most)
        found = [measure(of, seed) for seed in SEEDS]
        for name in found[0]:
            image, pixel = np.mean([results[name] for results in found], axis=0)
            plain = np.mean([results["as it is"] for results in found], axis=0)
            table.setdefault(name, []).append(
                f"{image:.3f} ({image - plain[0]:+.3f}) / {pixel:.3f} ({pixel - plain[1]:+.3f})"
            )
            print(category, name, table[name][-1], flush=True)
        write(
            arguments.name,
            arguments.development,
            arguments.at_most,
            [one[2] for one in sets[: len(table["as it is"])]],
            table,
        )


def write(name: str, development: bool, at_most: int, categories: Sequence[str], table: dict[str, list[str]]) -> None:
    text = [
        "# Few-shot accuracy without training: options",
        "",
        stamp(),
        f"Backbone mini, {SHOTS} shots, the memory alone, seeds {', '.join(map(str, SEEDS))}: image / pixel AUROC and",
        f"what is gained. {at_most} test images of a category at most, evenly chosen; maps at {SIDE} px.",
        "",
        f"    python benchmarks/options.py --data DATA --at-most {at_most}" + (" --development" if development else ""),
        "",
        "| option | " + " | ".join(categories) + " |",
        "|---|" + "---|" * len(categories),
        *(f"| {option} | " + " | ".join(cells) + " |" for option, cells in table.items()),
        "",
    ]
    (RESULTS / f"{name}.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
