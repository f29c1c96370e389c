"""The few-shot table: `sowa test` on three data sets, written as Markdown with the command, the commit and the machine.

    python benchmarks/few_shot.py --data DIR [--name NAME] [-- further flags of sowa test]

DIR holds magnetic_tile/tile and mvtec/toothbrush (MVTec AD layout) and visa/macaroni1 (VisA layout).
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sowa.core.files import make_folder, write_bytes
from sowa.core.types import Sample
from sowa.encoders.devices import describe_machine

RESULTS = Path(__file__).parent / "results"
DATASETS = (("mvtec", "magnetic_tile", "tile"), ("mvtec", "mvtec", "toothbrush"), ("visa", "visa", "macaroni1"))
SHOTS, SEEDS = "0,1,2,4", "0,1,2"
MANY, EVERY = 500, 4  # of more test images than that, every fourth is enough to compare variants


def thinned(samples: list[Sample]) -> list[Sample]:
    """Of many test images every fourth; all others."""
    test = [sample for sample in samples if sample.split == "test"]
    kept = test[:: EVERY if len(test) > MANY else 1]
    return [sample for sample in samples if sample.split != "test"] + kept


def command(dataset: str, folder: str, category: str, data: str, extra: list[str]) -> list[str]:
    where = ["--dataset", dataset, "--root", f"{data}/{folder}", "--category", category]
    return ["sowa", "test", *where, "--k-shot", SHOTS, "--seeds", SEEDS, *extra]


def run(arguments: list[str], out: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, "-m", "sowa", *arguments[1:], "--json", str(out)], check=True)
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def cell(value: dict[str, float | None]) -> str:
    return "–" if value["mean"] is None else f"{value['mean']:.3f} ± {value['std']:.3f}"


def rows(category: str, result: dict[str, Any]) -> list[str]:
    return [
        f"| {category} | {row['k_shot']} | " + " | ".join(cell(value) for value in row["metrics"].values()) + " |"
        for row in result["mean"]
    ]


def stamp() -> str:
    """When, of which commit and on what a result was measured."""
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    return f"{datetime.date.today()}, commit {commit}; {describe_machine()}"


def once(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured, from ``path`` where it's there already, so that a run that was stopped goes on."""
    make_folder(path.parent)
    if not path.exists():
        write_bytes(path, json.dumps(measure()).encode())
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", default="few-shot")
    arguments, extra = parser.parse_known_args()
    extra = [flag for flag in extra if flag != "--"]
    RESULTS.mkdir(exist_ok=True)
    lines, commands = [], []
    for dataset, folder, category in DATASETS:
        wanted = command(dataset, folder, category, arguments.data, extra)
        out = RESULTS / f"{arguments.name}-{category}.json"
        result = run(wanted, out)
        out.write_text(out.read_text().replace(arguments.data, "DATA"))  # where the data lies is nobody else's matter
        commands.append(" ".join(command(dataset, folder, category, "DATA", extra)))
        lines += rows(category, result)
    untrained = (
        "" if result["prompts_trained"] else " The prompts aren't trained: zero shots say nothing of the method."
    )
    metrics = list(result["mean"][0]["metrics"])
    text = [
        f"# Few-shot accuracy: {arguments.name}",
        "",
        f"{stamp()} Mean and standard deviation over the seeds {SEEDS};",
        "zero shots don't depend on the seed. Inductive scoring; AUPRO standard, limit 0.3. The references of each run",
        "are in the JSON files beside this one." + untrained,
        "",
        *(f"    {line}" for line in commands),
        "",
        "| category | shots | " + " | ".join(metrics) + " |",
        "|---|---|" + "---|" * len(metrics),
        *lines,
        "",
    ]
    (RESULTS / f"{arguments.name}.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
