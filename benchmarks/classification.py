"""Classification: a few images of each class, compared with a linear probe and nearest class mean; and names alone.

    python benchmarks/classification.py --corpus DIR --data DIR --hold-out FILE --work FOLDER

DIR of the corpus holds ``objects/<category>``, DIR of the data ``deeppcb``; FILE names the categories that the
backbone's training never saw. The groups were chosen before anything was measured on them; settings were chosen on
others (docs/CLASSIFICATION.md). What was measured of a group is kept in FOLDER, so a run that was stopped goes on where
it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from few_shot import RESULTS, once, stamp

from sowa.data import list_images, read_image
from sowa.data.class_folders import Folders, Labelled, apart
from sowa.data.sources import ImageSource
from sowa.metrics import image_metrics
from sowa.tasks.classification.classifier import TEMPLATES, Classifier
from sowa.tasks.classification.comparing import OURS, LabelledFeatures, compare_features
from sowa.tasks.classification.rivals import RIVALS

GROUPS = {
    "cats": ("cougar body", "cougar face", "leopards", "wild cat"),
    "birds": ("emu", "flamingo", "flamingo head", "ibis", "pigeon", "rooster"),
    "instruments": (
        *("accordion", "electric guitar", "euphonium", "french horn", "grand piano", "mandolin", "saxophone"),
    ),
}
DEFECTS = ("open", "short", "mouse bite", "spur", "spurious copper", "pin hole")  # types 1 to 6 of DeepPCB
UNSEEN, BOARDS, NAMES = "unseen names", "board defects", "names alone"
EACH = 30  # images of a class
SHOTS, SEEDS = (1, 4, 16, None), (0, 1, 2)
TEST_BOARDS, LEAST_SIDE, MARGIN = 40, 64, 24  # boards; pixels of a crop, and around its defect on both sides together
KNOWN, DRAWS = 10, range(5)  # classes that are known in the open set, of 20; draws of them
OPEN_SHOTS = 4


def photographs(corpus: Path, names: Sequence[str]) -> Labelled:
    """The first images of each class, as many of each."""
    found = [(path, label) for label, name in enumerate(names) for path in list_images(corpus / name)[:EACH]]
    return Labelled(
        tuple(ImageSource(str(path), path) for path, _ in found), tuple(label for _, label in found), tuple(names)
    )


def crops(data: Path) -> Folders:
    """Every marked defect of DeepPCB, cut out in memory; test boards are drawn by a seed of their own."""
    root = data / "deeppcb"
    lines = [line.split() for line in (root / "pairs.txt").read_text().splitlines() if line.strip()]
    order = np.random.default_rng(0).permutation(len(lines))
    parts = []
    for chosen in (order[:-TEST_BOARDS], order[-TEST_BOARDS:]):
        found = [each for place in sorted(chosen) for each in _defects(root, *lines[place])]
        parts.append(Labelled(tuple(p for p, _ in found), tuple(label for _, label in found), DEFECTS))
    return Folders(*parts)


def _defects(root: Path, source: str, boxes: str) -> list[tuple[ImageSource, int]]:
    image = read_image(root / source.replace(".jpg", "_test.jpg"))
    found = []
    for line in (root / boxes).read_text().splitlines():
        left, top, right, bottom, kind = map(int, line.replace(",", " ").split())
        side = max(LEAST_SIDE, max(right - left, bottom - top) + MARGIN)
        x = min(max(0, (left + right - side) // 2), image.shape[1] - side)
        y = min(max(0, (top + bottom - side) // 2), image.shape[0] - side)
        cut = np.ascontiguousarray(image[y : y + side, x : x + side])
        found.append((ImageSource(f"{source} {left} {top}", cut), kind - 1))
    return found


def few_shot(classifier: Classifier, seen: LabelledFeatures) -> dict[str, Any]:
    """Rows of every seed, each with its own images held out."""
    rows = []
    for seed in SEEDS:
        train, test = (seen.take(places) for places in apart(seen.labelled, 0.25, seed))
        rows += compare_features(classifier.encoder, train, test, SHOTS, (seed,))
    return {"rows": [asdict(row) for row in rows], "classes": len(seen.labelled.names), "images": len(seen.labels)}


def group_rows(classifier: Classifier, corpus: Path, names: Sequence[str]) -> dict[str, Any]:
    return few_shot(classifier, LabelledFeatures.of(classifier.encoder, photographs(corpus, names)))


def board_rows(classifier: Classifier, data: Path) -> dict[str, Any]:
    folders = crops(data)
    train, test = (LabelledFeatures.of(classifier.encoder, part) for part in (folders.train, folders.test))
    rows = compare_features(classifier.encoder, train, test, (1, 4, 16), SEEDS)
    rows += compare_features(classifier.encoder, train, test, (None,), SEEDS[:1])
    images = len(train.labels) + len(test.labels)
    return {"rows": [asdict(row) for row in rows], "classes": len(DEFECTS), "images": images}


def named_rows(classifier: Classifier, look: Callable[[], LabelledFeatures]) -> dict[str, Any]:
    """What names alone tell of classes that no training saw, and what is said of classes left out."""
    seen = look()
    names = seen.labelled.names
    top1 = {}
    for kind, templates in (("ensemble", TEMPLATES), ("one template", TEMPLATES[:1])):
        told = Classifier(classifier.encoder, names, templates)
        top1[kind] = float((told.logits(seen.pooled).argmax(dim=1) == seen.labels).float().mean())
    return {"names": top1, "open": open_set(classifier, seen), "classes": len(names), "images": len(seen.labels)}


def open_set(classifier: Classifier, seen: LabelledFeatures) -> list[dict[str, float]]:
    """Of draws of known classes: AUROC of known against unknown images, and what is called known at the threshold."""
    found = []
    for draw in DRAWS:
        known = np.random.default_rng(draw).permutation(len(seen.labelled.names))[:KNOWN].tolist()
        names = tuple(seen.labelled.names[label] for label in known)
        places = [place for place, label in enumerate(seen.labelled.labels) if label in known]
        others = seen.take([place for place, label in enumerate(seen.labelled.labels) if label not in known])
        labels = tuple(known.index(seen.labelled.labels[place]) for place in places)
        own = Labelled(tuple(seen.labelled.images[place] for place in places), labels, names)
        pooled = seen.pooled.take(places)
        told = Classifier(classifier.encoder, names)
        row = {f"names {name}": value for name, value in judged(told, pooled, others.pooled).items()}
        train, test = apart(own, 0.25, draw)
        chosen = [train[place] for place in own.take(train).shots(OPEN_SHOTS, draw)]
        shown = Classifier(classifier.encoder).fit_features(
            LabelledFeatures(pooled.take(chosen), torch.tensor(labels)[chosen], own.take(chosen)), draw
        )
        row |= {f"shown {name}": value for name, value in judged(shown, pooled.take(test), others.pooled).items()}
        found.append(row)
    return found


def judged(classifier: Classifier, known: Any, unknown: Any) -> dict[str, float]:
    inside, outside = classifier.knownness(known).numpy(), classifier.knownness(unknown).numpy()
    labels = [False] * len(inside) + [True] * len(outside)
    auroc = float(image_metrics(-np.concatenate([inside, outside]), labels).image_AUROC)
    return {"AUROC": auroc, "kept": float((inside >= 1).mean()), "refused": float((outside < 1).mean())}


def cells(rows: Sequence[dict[str, Any]], shots: int | None, method: str, what: str) -> list[float]:
    return [row[what] for row in rows if row["shots"] == shots and row["method"] == method]


def table(found: dict[str, dict[str, Any]], shots: int | None) -> list[str]:
    """Top-1 of every method, mean and deviation over seeds, and the means over groups."""
    lines = ["| | " + " | ".join([OURS, *RIVALS]) + " |", "|---|" + "---|" * (1 + len(RIVALS))]
    means = []
    for group, of in found.items():
        values = [cells(of["rows"], shots, method, "top1") for method in (OURS, *RIVALS)]
        best = max(np.mean(each) for each in values)
        text = [f"{np.mean(each):.3f} ± {np.std(each):.3f}" for each in values]
        marked = [f"**{cell}**" if np.mean(each) == best else cell for cell, each in zip(text, values, strict=True)]
        lines.append(f"| {group} ({of['classes']}) | " + " | ".join(marked) + " |")
        means.append([np.mean(each) for each in values])
    return [*lines, "| mean | " + " | ".join(f"{value:.3f}" for value in np.mean(means, axis=0)) + " |"]


def calibration(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| | " + " | ".join(f"{shots or 'all'}" for shots in SHOTS) + " |", "|---|" + "---|" * len(SHOTS)]
    for group, of in found.items():
        text = []
        for shots in SHOTS:
            before, after = (np.mean(cells(of["rows"], shots, OURS, what)) for what in ("ece_before", "ece"))
            text.append(f"{before:.3f} → {after:.3f}")
        lines.append(f"| {group} | " + " | ".join(text) + " |")
    return lines


def zero_shot(told: dict[str, Any]) -> list[str]:
    names, rows, count = told["names"], told["open"], told["classes"]
    lines = [
        f"Top-1 over the {count} names that no training saw, {told['images']} images: **{names['ensemble']:.3f}**"
        f" ({names['ensemble'] * count:.1f} x chance)",
        f"with the templates that are the default, {names['one template']:.3f}"
        f" ({names['one template'] * count:.1f} x chance) with `a photo of a {{}}` alone.",
        "",
        f"Open set: {KNOWN} of these names are known, images of the others are none of these; mean and deviation of",
        f"{len(rows)} draws. `names`: told by names alone; `shown`: {OPEN_SHOTS} images of each known class.",
        "",
        "| | AUROC | known images kept | others refused |",
        "|---|---|---|---|",
    ]
    for way in ("names", "shown"):
        values = [[row[f"{way} {name}"] for row in rows] for name in ("AUROC", "kept", "refused")]
        lines.append(f"| {way} | " + " | ".join(f"{np.mean(v):.3f} ± {np.std(v):.3f}" for v in values) + " |")
    return lines


def write(found: dict[str, dict[str, Any]], told: dict[str, Any]) -> None:
    text = [
        "# Classification",
        "",
        stamp(),
        "Top-1 with mini; mean and standard deviation of seeds 0, 1, 2, which draw the shots and the quarter that is",
        "held out; of boards always the same 40 of 160 are held out, and their defects are cropped. In brackets the",
        "number of classes. `class feature` is the backbone's own feature of an image, `all levels` that beside the",
        "mean of every level's tokens. mini has seen the categories and their names in training, but for the unseen",
        "names and the boards; every method reads the same frozen backbone. With one shot nothing is trained, and with",
        "more only where that helped images held out of it. All images of the boards were learned from once.",
        "",
        "Of dogs the corpus has two kinds with enough images, so there is no such group. Steel isn't there since its",
        "masks don't tell types.",
        "",
        "    python benchmarks/classification.py --corpus CORPUS --data DATA --hold-out pretrain/hold_out.txt \\",
        "        --work WORK",
    ]
    for shots in SHOTS:
        text += ["", f"## {shots or 'All'} image(s) of each class", "", *table(found, shots)]
    text += ["", "## Calibration (ECE before and after the temperature, by shots)", "", *calibration(found)]
    text += ["", "## Names alone, and none of these", "", *zero_shot(told)]
    (RESULTS / "classification.md").write_text("\n".join([*text, ""]))


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--corpus", "--data", "--hold-out", "--work"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    classifier = Classifier.from_pretrained("mini")
    names = tuple(arguments.hold_out.read_text().splitlines())
    unseen = cache(lambda: LabelledFeatures.of(classifier.encoder, photographs(arguments.corpus / "objects", names)))
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        UNSEEN: lambda: few_shot(classifier, unseen()),
        BOARDS: partial(board_rows, classifier, arguments.data),
    }
    for group, classes in GROUPS.items():
        measures[group] = partial(group_rows, classifier, arguments.corpus / "objects", classes)
    told = once(arguments.work / f"classification-{NAMES}.json", partial(named_rows, classifier, unseen))
    found: dict[str, dict[str, Any]] = {}
    for group, measure in measures.items():
        found[group] = once(arguments.work / f"classification-{group}.json", measure)
        write(found, told)
        print(group, flush=True)


if __name__ == "__main__":
    main()
