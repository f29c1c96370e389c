"""``sowa benchmark``: rows, tables and images of the published evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from sowa.cli.console import Console
from sowa.cli.options import (
    COMPUTE,
    NETWORK,
    Aupro,
    ComputeFlags,
    ImageSize,
    KShots,
    NetworkFlags,
    Scoring,
    Seeds,
    Typed,
    advanced,
    basic,
    numbers,
)
from sowa.core.files import write_bytes
from sowa.evaluation.config import EvaluationConfig


def benchmark(
    *,
    root: Annotated[Path, basic("folder with the data sets, each in a folder of its name or its archive's")],
    out: Annotated[Path, basic("folder for weights, rows, tables and images")],
    suite: Annotated[
        Literal["paper", "all"], basic("paper (the data sets of the paper) or all (further ones too)")
    ] = "paper",
    datasets: Annotated[str | None, basic("names with commas, to judge some of the suite only")] = None,
    no_train: Annotated[bool, basic("judge with the weights that are there, as with --model", negative=())] = False,
    epochs: Annotated[int, advanced("passes of the training on VisA, or on MVTec AD to judge VisA")] = 1,
    network: NetworkFlags = NETWORK,
    k_shot: KShots = "0,1,2,4",
    seeds: Seeds = "0,1,2",
    scoring: Scoring = "inductive",
    aupro: Aupro = "standard",
    image_size: ImageSize = None,
    compute: ComputeFlags = COMPUTE,
    typed: Typed = None,
) -> None:
    """Run the published evaluation: train on one data set, judge the others, for all numbers of shots and seeds.

    Tables and images appear in OUT/README.md.
    Each category's row is written as soon as it's there, so a run that was stopped goes on where it was.
    """
    from sowa.evaluation.benchmark import BenchmarkConfig, Network, run_benchmark

    shots = numbers("k-shot", k_shot)
    evaluation = EvaluationConfig(shots, numbers("seeds", seeds), scoring, aupro, compute.batch_size)
    chosen = tuple(name.strip().replace("_", "-") for name in datasets.split(",")) if datasets else ()
    trains = not no_train and network.model is None
    config = BenchmarkConfig(suite, trains, epochs, datasets=chosen, evaluation=evaluation)
    judge = Network(**network.arguments(), settings=compute.settings(image_size))
    console = Console()
    with console.progress() as report:
        rows = run_benchmark(judge, root, out, config, report)
    _write(rows, out, typed or "")
    console.skipped([(skip["image_path"], skip["why"]) for row in rows for skip in row["skipped"]])
    _print_means(rows, console)
    console.note(f"tables and images: {out / 'README.md'}")


def _write(rows: list[dict[str, Any]], out: Path, command: str) -> None:
    """README.md, table.csv and images; ``command`` is what README.md says was typed."""
    from sowa.encoders.devices import describe_machine
    from sowa.evaluation.benchmark.figures import draw_shots, draw_sizes
    from sowa.evaluation.benchmark.tables import comma_separated, markdown

    draw_shots(rows, out / "shots.png")
    draw_sizes(rows, out / "sizes.png")
    write_bytes(out / "README.md", markdown(rows, command, describe_machine()).encode())
    write_bytes(out / "table.csv", comma_separated(rows).encode())


def _print_means(rows: list[dict[str, Any]], console: Console) -> None:
    from sowa.evaluation.benchmark.summary import FIELDS, TITLES, by_dataset, shots, summary

    lines = []
    for name, of_set in by_dataset(rows).items():
        for k_shot in shots(of_set):
            means = [summary(of_set, k_shot, metric).mean for metric in FIELDS]
            lines.append([TITLES[name], len(of_set), k_shot, *means])
    console.table("means over categories and seeds", ["data set", "categories", "shots", *FIELDS.values()], lines)
