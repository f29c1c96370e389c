"""Memory banks of many references: what keeping fewer patches and searching approximately cost and save.

    python benchmarks/bank.py --data DIR

DIR as in few_shot.py. Accuracy with `mini` and all normal training images of a category as references; time at the
size of the paper's network too, on vectors that gather around centres, as patches do.

Shapes: L levels, K references, N images, P patches, E joint width.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from few_shot import DATASETS, RESULTS, stamp
from sklearn.metrics import roc_auc_score
from speed import encoder
from torch import Tensor

from sowa import Sowa
from sowa.core.config import Settings
from sowa.core.memory import MemoryBank
from sowa.core.scoring import few_shot_map, top_mean
from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data import load
from sowa.data.batches import read_batches
from sowa.data.images import read_mask_at
from sowa.data.sources import sample_sources
from sowa.detector.references import MOST_PATCHES
from sowa.extensions.faiss import ApproximateIndex
from sowa.metrics import pixel_metrics

EVERY, BATCH = 8, 4  # of magnetic tile's 692 test images every eighth is judged
CATEGORIES = DATASETS[:1] + DATASETS[2:]  # toothbrush has fewer references than are kept whole anyway
REFERENCES, LEVELS, PATCHES, WIDTH = 1000, 4, 576, 768  # the paper's size
CENTRES, SPREAD, ROUNDS = 2000, 0.7, 3
CLOSE = 1e-3  # a cosine this near to the best one counts as found


def observed(detector: Sowa, samples: list[Sample]) -> Tensor:
    wanted = sample_sources(samples)
    batches = read_batches(wanted, detector.image_size, BATCH, [])
    return torch.cat(
        [torch.stack(detector.encoder.encode(b.images, prompts=False).patches).half() for b in batches], dim=1
    )


def banks(patches_LKPE: Tensor) -> Iterator[tuple[str, MemoryBank]]:
    """Every kind of bank of the same references, one at a time."""
    references = patches_LKPE.shape[1]

    def built(keep: float) -> MemoryBank:
        starts = range(0, references, BATCH)
        return MemoryBank.build((tuple(patches_LKPE[:, s : s + BATCH].float()) for s in starts), references, keep)

    whole = built(1.0)
    yield "every patch, exact", whole
    whole.index = ApproximateIndex(whole.features)
    yield "every patch, faiss", whole
    default = MOST_PATCHES / (references * patches_LKPE.shape[2])
    for keep in (default, 0.1, 0.05, 0.02):
        yield f"{keep:.2g} of the patches" + (", as by default" if keep == default else "") + ", exact", built(keep)
    few = MemoryBank(whole.features[:, : round(0.1 * references)])
    yield "a tenth of the references, exact", few


def accuracy(folder: str, category: str, dataset: str, data: Path) -> list[str]:
    detector = Sowa.from_pretrained("mini")
    samples = load(dataset, data / folder, category)
    train = [sample for sample in samples if sample.split == "train" and sample.label == NORMAL]
    test = [sample for sample in samples if sample.split == "test"]
    test = test[:: EVERY if len(test) > 500 else 1]
    size, grid = detector.image_size, (24, 24)
    patches_LNPE = observed(detector, test)
    labels = [int(sample.label == ABNORMAL) for sample in test]
    masks = [read_mask_at(sample.mask_path, size) for sample in test]
    lines = [
        "",
        f"## {category}: {len(train)} references, {len(test)} test images",
        "",
        "| bank | MiB | ms/image | image AUROC | pixel AUROC | nearest found | distances |",
        "|---|---|---|---|---|---|---|",
    ]
    exact = None
    for name, bank in banks(observed(detector, train)):
        started = time.perf_counter()
        found = [bank.distances(tuple(patches_LNPE[:, s : s + BATCH].float())) for s in range(0, len(test), BATCH)]
        took = (time.perf_counter() - started) / len(test)
        distances_LNP = torch.cat(found, dim=1)
        exact = distances_LNP if exact is None else exact
        scores = top_mean(distances_LNP.sum(dim=0))
        maps = few_shot_map(distances_LNP, grid, size)
        pixels = pixel_metrics(list(maps.numpy()), masks).pixel_AUROC
        lines.append(
            f"| {name} | {bank.features.nbytes / 2**20:.0f} | {1000 * took:.0f} "
            f"| {roc_auc_score(labels, scores):.4f} | {float(pixels):.4f} "
            f"| {100 * (distances_LNP - exact < CLOSE).double().mean():.1f} % "
            f"| {100 * (distances_LNP.sum() / exact.sum() - 1):+.1f} % |"
        )
        print(lines[-1], flush=True)
    return lines


def gathered(count: int, seed: int) -> Tensor:
    """Unit vectors (count, E) around centres."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(CENTRES, WIDTH, generator=random)
    random.manual_seed(seed)
    chosen = torch.randint(CENTRES, (count,), generator=random)
    return F.normalize(centres[chosen] + SPREAD * torch.randn(count, WIDTH, generator=random), dim=-1)


def at_paper_size() -> list[str]:
    """Searching for one image's patches among a thousand references', beside the encoder itself."""
    detector = Sowa.from_pretrained("ViT-L-14-336:random", settings=Settings(precision="fp32"))
    images = np.zeros((1, *detector.image_size, 3), np.uint8)
    features = torch.empty(LEVELS, REFERENCES, PATCHES, WIDTH)
    for level in range(LEVELS):
        for start in range(0, REFERENCES, 50):
            made = gathered(50 * PATCHES, 1000 * level + start)
            features[level, start : start + 50] = made.unflatten(0, (50, PATCHES))
    query = tuple(gathered(PATCHES, 7_000_000 + level)[None] for level in range(LEVELS))
    kept = round(MOST_PATCHES / REFERENCES)
    whole, fewer = MemoryBank(features), MemoryBank(features[:, :, :kept].contiguous())
    indexed = MemoryBank(features)
    started = time.perf_counter()
    indexed.index = ApproximateIndex(features)
    building = time.perf_counter() - started
    fp32, bf16 = encoder(detector, torch.float32), encoder(detector, torch.bfloat16)
    runs: dict[str, Callable[[], object]] = {
        "encoder fp32": lambda: fp32(images),
        "encoder bf16": lambda: bf16(images),
        "every patch, exact": lambda: whole.distances(query),
        f"{kept} patches of each reference, as by default": lambda: fewer.distances(query),
        "every patch, faiss": lambda: indexed.distances(query),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
            print(f"{name}: {seconds[name][-1]:.3f} s", flush=True)
    lines = ["| | s/image (rounds) | time / encoder fp32 | time / encoder bf16 |", "|---|---|---|---|"]
    for name, found in seconds.items():
        ratios = [np.median(np.array(found) / seconds[f"encoder {kind}"]) for kind in ("fp32", "bf16")]
        rounds = ", ".join(f"{one:.3f}" for one in found)
        lines.append(f"| {name} | {rounds} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    off = indexed.distances(query) - whole.distances(query)
    return [
        "",
        f"## {REFERENCES} references at the paper's size ({LEVELS} levels, {PATCHES} patches, {WIDTH} wide)",
        "",
        *lines,
        "",
        f"One image at a time. The whole bank takes {features.nbytes / 2**30:.1f} GiB; faiss half of that once more, "
        f"made in {building:.0f} s, and finds {100 * (off < CLOSE).double().mean():.1f} % of the nearest.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    text = [
        "# Memory banks of many references",
        "",
        f"{stamp()} {torch.get_num_threads()} threads.",
        "",
        "    python benchmarks/bank.py --data DATA",
        "",
        "Nearest found: the share of patches whose nearest one in the bank is as near as in the whole bank. Distances: "
        "their mean",
        "against that of the whole bank. Thresholds are fitted to the bank, so larger distances are no matter in "
        "themselves.",
    ]
    with torch.inference_mode():
        text += at_paper_size()
        for dataset, folder, category in CATEGORIES:
            text += accuracy(folder, category, dataset, arguments.data)
            (RESULTS / "bank.md").write_text("\n".join([*text, ""]))


if __name__ == "__main__":
    main()
