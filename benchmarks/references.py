"""What can be made of few references: views of them, the choice of them, and a backbone that has seen images.

    python benchmarks/references.py --data DIR --work FOLDER [--at-most N] [--development]

DIR as in few_shot.py; with --development auxiliary data in it and generated products, on which all was chosen. Each
image and view is seen once; every row is the memory bank that `sowa fit` builds with these settings. A product's
rows are written to FOLDER as soon as they're there, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from few_shot import DATASETS, RESULTS, once, stamp
from torch import Tensor

from sowa import Sowa
from sowa.core.memory import MemoryBank
from sowa.core.scoring import few_shot_scores
from sowa.core.types import ABNORMAL, NORMAL, Features, Sample
from sowa.data import choose_references, load, split
from sowa.data.batches import read_batches
from sowa.data.sources import ImageSource, sample_sources
from sowa.data.views import VIEWS
from sowa.detector.coreset import CANDIDATES
from sowa.detector.references import Selection, build, cover
from sowa.metrics import image_metrics
from sowa.synthetic import CATEGORIES, write_dataset

SHOTS, SEEDS, BATCH = (1, 2, 4), (0, 1, 2), 8
AUXILIARY = ("glass174", "kolektorsdd", "sdu_fibre")
GENERATED, STYLE, SEVERITY = CATEGORIES[::2], 7_000_001, 0.15
# What each row gives `fit`.
ROWS: dict[str, dict[str, Any]] = {
    "references as they are": {"augment": ()},
    **{f"with `{kind}`": {"augment": (kind,)} for kind in VIEWS},
    "with what the references allow (`auto`, the default)": {"augment": "auto"},
    "chosen (`--coreset`), as they are": {"augment": (), "coreset": True},
    "chosen, with what they allow": {"augment": "auto", "coreset": True},
}
UNTRAINED = "as they are, random weights"


class Remembering:
    """Has a detector encode equal images once: what a row shows it others have shown before."""

    def __init__(self, detector: Sowa) -> None:
        self.encode_, self.seen = detector.encoder.encode, dict[bytes, Features]()
        detector.encoder.encode = self.encode  # type: ignore[method-assign]

    def encode(self, images: Any, prompts: bool | None = None, categories: Any = None) -> Features:
        key = images.tobytes()
        if key not in self.seen:
            self.seen[key] = self.encode_(images, prompts, categories)
        return self.seen[key]


def products(data: str, development: bool) -> Iterator[tuple[str, list[Sample]]]:
    if not development:
        yield from ((category, load(dataset, f"{data}/{folder}", category)) for dataset, folder, category in DATASETS)
        return
    yield from ((name, load("pairs", f"{data}/auxiliary", name)) for name in AUXILIARY)
    for category in GENERATED:
        with TemporaryDirectory() as root:
            write_dataset(root, [category], train=12, test=(30, 5), seed=STYLE, severity=SEVERITY)
            yield category, load("mvtec", root, category)


def rows(detector: Sowa, samples: Sequence[Sample], at_most: int, ways: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Image AUROC of each way, by shots, mean over the seeds."""
    Remembering(detector)
    test = [sample for sample in split(samples, "test") if sample.label is not None]
    test = test[:: -(-len(test) // at_most)]
    batches = read_batches(sample_sources(test), detector.image_size, BATCH, [])
    patches = [detector.encoder.encode(batch.images, prompts=False).patches for batch in batches]
    labels = [sample.label == ABNORMAL for sample in test]
    found = {name: np.empty((len(SEEDS), len(SHOTS))) for name in ways}
    for row, seed in enumerate(SEEDS):
        count = sum(sample.split == "train" and sample.label == NORMAL for sample in samples)
        drawn = sample_sources(choose_references(samples, count, seed))
        chosen: list[ImageSource] = []
        for name, way in ways.items():
            if way.get("coreset") and not chosen:  # greedy, so fewer are the first of more
                chosen, _, _ = cover(detector.encoder, drawn[:CANDIDATES], max(SHOTS), BATCH)
            for column, shots in enumerate(SHOTS):
                taken = chosen if way.get("coreset") else drawn
                bank = build(detector.encoder, taken, Selection(shots, BATCH, augment=way["augment"])).bank
                found[name][row, column] = auroc(bank, patches, labels)
    return {name: values.mean(axis=0).tolist() for name, values in found.items()}


def product_rows(samples: Sequence[Sample], at_most: int) -> dict[str, Any]:
    untrained = {UNTRAINED: ROWS["references as they are"]}
    found = rows(Sowa.from_pretrained("mini"), samples, at_most, ROWS)
    return found | rows(Sowa.from_pretrained("mini:random"), samples, at_most, untrained)


@torch.inference_mode()
def auroc(bank: MemoryBank, patches: Sequence[Sequence[Tensor]], labels: Sequence[bool]) -> float:
    scores = np.concatenate([few_shot_scores(bank.distances(part)).numpy() for part in patches])
    return float(image_metrics(scores, labels).image_AUROC)


def write(path: Path, development: bool, at_most: int, found: dict[str, dict[str, Any]]) -> None:
    flags = f"--at-most {at_most}" + (" --development" if development else "")
    text = [
        "# What can be made of few references",
        "",
        stamp(),
        "Image AUROC with mini and what is gained over references as they are; mean of seeds 0, 1, 2; the memory",
        f"alone; {at_most} test images of a product at most, evenly chosen; `--coreset` chooses among {CANDIDATES}.",
        "",
        f"    python benchmarks/references.py --data DATA --work WORK {flags}",
    ]
    for place, shots in enumerate(SHOTS):
        text += ["", f"## {shots} reference(s)", "", "| | mean | " + " | ".join(found) + " |"]
        text += ["|---|---|" + "---|" * len(found)]
        for way in next(iter(found.values())):
            means = np.array([of[way][place] for of in found.values()])
            plain = np.array([of["references as they are"][place] for of in found.values()])
            cells = [f"{mean:.3f} ({gain:+.3f})" for mean, gain in zip(means, means - plain, strict=True)]
            text.append(f"| {way} | {means.mean():.3f} ({(means - plain).mean():+.3f}) | " + " | ".join(cells) + " |")
    path.write_text("\n".join([*text, ""]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--at-most", type=int, default=150, help="test images of a product, evenly chosen")
    parser.add_argument("--development", action="store_true", help="the data that settings are chosen on")
    arguments = parser.parse_args()
    name = "references-development" if arguments.development else "references"
    found: dict[str, dict[str, Any]] = {}
    for product, samples in products(arguments.data, arguments.development):
        kept = arguments.work / f"{name}-{product}.json"
        found[product] = once(kept, partial(product_rows, samples, arguments.at_most))
        write(RESULTS / f"{name}.md", arguments.development, arguments.at_most, found)
        print(product, found[product], flush=True)


if __name__ == "__main__":
    main()
