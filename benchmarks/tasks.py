"""Detection and classification beside their targets, from what the benchmarks of both have measured.

    python benchmarks/tasks.py --detection WORK --classification WORK

WORK is what ``detection.py`` and ``classification.py`` were given. Tables in full are in the files that they wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from few_shot import RESULTS, stamp

SHOTS = (1, 4, 16)
OURS = "sowa"


def read(work: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((work / f"{name}.json").read_text())
    return found


def detection(work: Path) -> list[tuple[str, str, str]]:
    """What, target, measured."""
    beside, alone, plain, queries = (read(work, name) for name in ("reference", "alone", "plain", "queries"))
    return [
        ("DeepPCB, mAP50 of six types of defects, template given", "0.80", f"{beside['mAP50']:.3f}"),
        ("the same without the template", "to be reported", f"{alone['mAP50']:.3f}"),
        ("the same, difference from the template and connected components", "to be reported", f"{plain['mAP50']:.3f}"),
        ("text query, AP50 of pairs never shown", "0.60", f"{queries['colour kind']['mAP50']:.3f}"),
        ("boxes on an image that is asked for what isn't there", "at most 0.1", f"{queries['false alarms, any']:.3f}"),
    ]


def classification(work: Path) -> list[tuple[str, str, str]]:
    groups = [path for path in sorted(work.glob("classification-*.json")) if "rows" in json.loads(path.read_text())]
    found = [json.loads(path.read_text())["rows"] for path in groups]
    lines = []
    for shots in SHOTS:
        by_group = [top1(rows, shots) for rows in found]
        mean = {method: float(np.mean([group[method] for group in by_group])) for method in by_group[0]}
        best = max(value for method, value in mean.items() if method != OURS)
        won = sum(group[OURS] >= max(group.values()) for group in by_group)
        told = f"{mean[OURS]:.3f}, best rival {best:.3f}; best in {won} of {len(by_group)} groups"
        lines.append((f"fine-grained top-1, {shots} image(s) of each class", "above both baselines", told))
    names = read(work, "classification-names alone")
    opened = [np.mean([draw[f"{how} AUROC"] for draw in names["open"]]) for how in ("names", "shown")]
    zero = names["names"]["ensemble"]
    lines.append(("zero-shot top-1, 20 names never trained", "0.20 (4 x chance)", f"{zero:.3f} ({20 * zero:.1f} x)"))
    told = f"{opened[0]:.3f} by names, {opened[1]:.3f} with four images"
    return [*lines, ("open set, AUROC, ten known and ten similar unknown classes", "to be reported", told)]


def top1(rows: list[dict[str, Any]], shots: int) -> dict[str, float]:
    """Of each method, mean over seeds."""
    methods = dict.fromkeys(row["method"] for row in rows)
    of = {name: [row["top1"] for row in rows if row["method"] == name and row["shots"] == shots] for name in methods}
    return {name: float(np.mean(values)) for name, values in of.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--detection", required=True, type=Path)
    parser.add_argument("--classification", required=True, type=Path)
    arguments = parser.parse_args()
    lines = detection(arguments.detection) + classification(arguments.classification)
    text = [
        "# Other tasks",
        "",
        stamp(),
        "",
        "    python benchmarks/detection.py --data DATA --corpus CORPUS --work DETECTION",
        "    python benchmarks/classification.py --corpus CORPUS --data DATA --hold-out pretrain/hold_out.txt \\",
        "        --work CLASSES",
        "    python benchmarks/tasks.py --detection DETECTION --classification CLASSES",
        "",
        "With `mini`. In full: [detection](detection.md), [classification](classification.md), and boxes without",
        "training, [instances](instances.md).",
        "",
        "| what | target | measured |",
        "|---|---|---|",
        *(f"| {what} | {target} | {measured} |" for what, target, measured in lines),
        "",
    ]
    (RESULTS / "tasks.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
