"""Detection: defects of printed circuit boards, and text queries on scenes, with the embedded backbone.

    python benchmarks/detection.py --data DIR --corpus CORPUS --work FOLDER

DIR holds deeppcb, CORPUS ``objects/<category>``. Models and rows are written to FOLDER as soon as they're there, so a
run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from few_shot import RESULTS, once, stamp
from scenes import write as write_scenes

from sowa.cli.app import run
from sowa.core.files import write_bytes
from sowa.data import read_image
from sowa.data.boxes import BoxSample, load_boxes
from sowa.detector.render import encode
from sowa.synthetic.scenes import Inventory, compose
from sowa.tasks.detection.decode import Boxes
from sowa.tasks.detection.detector import BoxDetector
from sowa.tasks.detection.evaluate import find_all, measure
from sowa.tasks.detection.examples import EncodedView, Examples, encode_examples
from sowa.tasks.detection.queries import fits
from sowa.tasks.detection.train import hold_out

HELD_OUT, SEED = 0.25, 0  # 40 of DeepPCB's 160 pairs here are tested on
BOARDS = f"--image-size 640 --augment none --held-out {HELD_OUT} --seed {SEED} --epochs 16"
SCENES, SCENES_SEED = {"train": 700, "val": 80, "test": 150}, 14_000_001
QUERIES = "--phrases --augment none --batch-size 8 --epochs 14"
DARK = 60  # difference of grey values from which a pixel isn't the reference's
SHOWN = 8  # scenes in the image
SPECK = 12  # pixels of a component that are noise


def trained(command: str, out: Path) -> float:
    """Runs ``sowa detect train``; the seconds it took."""
    started = time.perf_counter()
    code = run(shlex.split(f"detect train {command} --out {out}"))
    if code:
        raise SystemExit(code)
    return time.perf_counter() - started


def boards(data: str, work: Path, reference: bool) -> dict[str, Any]:
    """mAP on held-out boards, with classes and without."""
    out = work / f"boards-{'reference' if reference else 'alone'}.safetensors"
    where = f"--dataset deeppcb --root {shlex.quote(data)}/deeppcb {BOARDS}"
    seconds = trained(where + (" --reference" if reference else ""), out)
    detector = BoxDetector.load(out)
    _, tested = hold_out(load_boxes("deeppcb", f"{data}/deeppcb"), HELD_OUT, SEED)
    examples = encode_examples(detector.encoder, tested, reference=reference)
    started = time.perf_counter()
    found = find_all(detector, examples)
    each = (time.perf_counter() - started) / len(tested)
    return scored(examples, found, detector.names) | {"seconds": seconds, "head": each}


def scored(examples: Examples, found: Sequence[Boxes], names: Sequence[str]) -> dict[str, Any]:
    metrics = measure(examples, found, names)
    return metrics.to_dict() | {"by class": metrics.per_class, "any type": anything(examples, found)}


def anything(examples: Examples, found: Sequence[Boxes]) -> float | None:
    """AP50 where it doesn't matter what a box is called."""
    merged = [Boxes(boxes.xyxy, boxes.scores, torch.zeros_like(boxes.labels)) for boxes in found]
    return measure(examples, merged, [""], phrases=True).values["mAP50"]  # no word at all fits every label


def plain(data: str) -> dict[str, Any]:
    """Connected components of the difference from the reference; missing copper is called what it usually is in the
    training images, and so is what is too much."""
    boards = load_boxes("deeppcb", f"{data}/deeppcb")
    training, tested = hold_out(boards, HELD_OUT, SEED)
    margin, usual = margin_of(training), {}
    for too_much in (False, True):
        kinds = [
            kind
            for sample in training
            for kind, more in zip(sample.labels, signs(sample), strict=True)
            if more == too_much
        ]
        usual[too_much] = max(set(kinds), key=kinds.count)
    found = []
    for sample in tested:
        components = differences(sample, margin)
        boxes = torch.tensor([box for box, _, _ in components]).reshape(-1, 4)
        scores = torch.tensor([1 - 1 / (1 + area) for _, area, _ in components])
        labels = torch.tensor([boards.names.index(usual[more]) for _, _, more in components], dtype=torch.long)
        found.append(Boxes(boxes / 16, scores, labels))
    corners = tuple(torch.tensor(sample.boxes).reshape(-1, 4) / 16 for sample in tested)
    examples = Examples(tuple(tested), (EncodedView((), None, corners),), (40, 40), ())
    return scored(examples, found, boards.names)


def margin_of(samples: Sequence[BoxSample]) -> float:
    """Pixels that annotators leave around what differs, in the mean over components that lie in one box."""
    around = []
    for sample in samples:
        for (x1, y1, x2, y2), _, _ in differences(sample, 0.0):
            holding = [b for b in sample.boxes if b[0] <= x1 and b[1] <= y1 and x2 <= b[2] and y2 <= b[3]]
            around += [(b[2] - b[0] - x2 + x1 + b[3] - b[1] - y2 + y1) / 4 for b in holding[:1]]
    return float(np.mean(around))


def differences(sample: BoxSample, margin: float) -> list[tuple[list[float], float, bool]]:
    """Box, area, and whether it's brighter than the reference, of each component."""
    assert sample.reference is not None
    tested, reference = (read_image(path)[..., 0].astype(int) for path in (sample.image_path, sample.reference))
    found = []
    for more, where in ((True, tested - reference > DARK), (False, reference - tested > DARK)):
        opened = cv2.morphologyEx(where.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(opened)
        for x, y, across, down, area in stats[1:]:
            if area >= SPECK:
                box = [float(v) for v in (x - margin, y - margin, x + across + margin, y + down + margin)]
                found.append((box, float(area), more))
    return found


def signs(sample: BoxSample) -> list[bool]:
    """Whether each true box is brighter than the reference on the whole."""
    assert sample.reference is not None
    tested, reference = (read_image(path)[..., 0].astype(int) for path in (sample.image_path, sample.reference))
    return [
        bool((tested - reference)[int(y1) : int(y2), int(x1) : int(x2)].sum() > 0) for x1, y1, x2, y2 in sample.boxes
    ]


def queries(corpus: Path, work: Path) -> dict[str, Any]:
    """AP50 of pairs of colour and kind that training never showed, and false alarms on what isn't in an image."""
    root, out = work / "scenes", work / "queries.safetensors"
    unseen = write_scenes(root, corpus, SCENES, SCENES_SEED)
    seconds = trained(f"--dataset coco --root {root} {QUERIES}", out)
    detector, tested = BoxDetector.load(out), load_boxes("coco", root).of("test")
    examples = encode_examples(detector.encoder, tested)
    pairs = [f"{colour} {kind}" for colour, kind in unseen]
    sized = [f"{size} {pair}" for pair in pairs for size in ("small", "big")]
    kinds = sorted({kind for _, kind in unseen})
    result: dict[str, Any] = {"seconds": seconds, "threshold": detector.query_threshold_}
    for name, asked in (("colour kind", pairs), ("size colour kind", sized), ("kind", kinds)):
        found = find_all(detector, examples, asked)
        metrics = measure(examples, found, asked, phrases=True)
        result[name] = metrics.to_dict()
        if name == "colour kind":
            missed = sum(match.errors(detector.query_threshold_)[0] for match in metrics.matches)
            result["found"] = 1 - missed / sum(match.wanted for match in metrics.matches)
            result |= alarms(examples, found, pairs, detector.query_threshold_)
    return result


def alarms(examples: Examples, found: Sequence[Boxes], names: Sequence[str], threshold: float) -> dict[str, float]:
    """Boxes above the threshold when each image is asked for one name that isn't in it: any, or one whose colour and
    kind both are, on different things."""
    random = np.random.default_rng(SEED)
    counted: dict[str, list[int]] = {"any": [], "both words there": []}
    for sample, boxes in zip(examples.samples, found, strict=True):
        absent = [place for place, name in enumerate(names) if not any(fits(name, label) for label in sample.labels)]
        words = {word for label in sample.labels for word in label.split()}
        hard = [place for place in absent if set(names[place].split()) <= words]
        for kind, choices in (("any", absent), ("both words there", hard)):
            if choices:
                asked = choices[int(random.integers(len(choices)))]
                counted[kind].append(int(((boxes.labels == asked) & (boxes.scores >= threshold)).sum()))
    return {f"false alarms, {kind}": float(np.mean(values)) for kind, values in counted.items()}


def image(model: Path) -> None:
    """Scenes of shapes alone, each with what a query finds in it; photographs stay where they are."""
    detector, panels = BoxDetector.load(model), []
    for seed in range(SHOWN):
        scene = compose(Inventory({}), SCENES_SEED + 2_000_000 + seed)
        words = scene.labels[0].split()
        query = " ".join(words[1:] if seed % 2 else words[2:])
        (found,) = detector.predict(scene.image, [query, "blue hexagon"])
        panels.append(found.plot())
    rows = [np.hstack(panels[place : place + SHOWN // 2]) for place in (0, SHOWN // 2)]
    write_bytes(RESULTS / "detection.jpg", encode(np.vstack(rows), "JPEG"))


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def board_rows(rows: dict[str, dict[str, Any]]) -> list[str]:
    columns = ("mAP50", "mAP50-95", "mAP50 small", "mAP50 medium", "F1", "false_alarms", "any type")
    lines = ["| way | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [f"| {way} | " + " | ".join(number(row[name]) for name in columns) + " |" for way, row in rows.items()]
    kinds = list(next(iter(rows.values()))["by class"])
    lines += ["", "| mAP50 of | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
    return lines + [
        f"| {way} | " + " | ".join(number(row["by class"].get(kind)) for kind in kinds) + " |"
        for way, row in rows.items()
    ]


def query_rows(row: dict[str, Any]) -> list[str]:
    columns = ("mAP50", "mAP50-95", "mAP50 small", "mAP50 medium", "mAP50 large")
    lines = ["| asked for | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in ("colour kind", "size colour kind", "kind"):
        lines.append(f"| {name} | " + " | ".join(number(row[name].get(column)) for column in columns) + " |")
    return lines


def write(boards_rows: dict[str, dict[str, Any]], query_row: dict[str, Any]) -> None:
    text = [
        "# Detection",
        "",
        stamp(),
        "",
        "    OMP_NUM_THREADS=1 python benchmarks/detection.py --data DATA --corpus CORPUS --work WORK",
        "",
        "## Defects of printed circuit boards (DeepPCB)",
        "",
        "120 pairs to train on, 40 to test on, drawn by the seed; six types of defects. In the last column it doesn't",
        "matter which type a box is called. F1 and false alarms (per image) are at the score with the largest F1 on",
        "these images. The plain way: connected components of the difference from the template, with the margin that",
        "annotators leave, each called what such a difference usually is in the training images.",
        "",
        f"    sowa detect train --dataset deeppcb --root DATA/deeppcb {BOARDS} [--reference] --out FILE",
        "    sowa detect test --dataset deeppcb --root DATA/deeppcb --model FILE",
        "",
        *board_rows(boards_rows),
        "",
        *(
            f"{way}: trained in {row['seconds'] / 60:.0f} minutes; heads take {row['head'] * 1000:.0f} ms an image."
            for way, row in boards_rows.items()
            if "seconds" in row
        ),
        "",
        "(Minutes and milliseconds of one thread, while the machine did other work.)",
        "",
        "## Text queries on scenes",
        "",
        f"{SCENES['train']} generated scenes to train on, {SCENES['val']} to choose the threshold on, {SCENES['test']}",
        "to test on. Queries are pairs of colour and kind that no training image shows; test images show other",
        "photographs of the kinds than training images do.",
        "",
        f"    sowa detect train --dataset coco --root WORK/scenes {QUERIES} --out FILE",
        "",
        *query_rows(query_row),
        "",
        f"At the threshold that the model chose on its own validation scenes, {query_row['threshold']:.2f}, it finds",
        f"{query_row['found']:.0%} of such pairs where they are. Asked for one that isn't in it, an image returns",
        f"{query_row['false alarms, any']:.3f} boxes; where its colour and its kind are both there, apart,",
        f"{query_row['false alarms, both words there']:.3f}. Trained in {query_row['seconds'] / 60:.0f} minutes.",
        "",
        'What it answers to one query for each scene (a kind, or colour and kind), and to "blue hexagon":',
        "",
        "![boxes on scenes](detection.jpg)",
        "",
    ]
    (RESULTS / "detection.md").write_text("\n".join(text))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--corpus", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--only", choices=("boards", "queries"), help="this part alone; nothing is written to results")
    arguments = parser.parse_args()
    work = arguments.work
    rows, row = {}, None
    if arguments.only != "queries":
        rows = {
            "with the reference": once(work / "reference.json", partial(boards, arguments.data, work, True)),
            "without": once(work / "alone.json", partial(boards, arguments.data, work, False)),
            "plain": once(work / "plain.json", partial(plain, arguments.data)),
        }
    if arguments.only != "boards":
        row = once(work / "queries.json", partial(queries, arguments.corpus, work))
    if rows and row:
        write(rows, row)
        image(work / "queries.safetensors")


if __name__ == "__main__":
    main()
