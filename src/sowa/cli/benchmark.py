"""``sowa benchmark``: rows, tables and images of the published evaluation."""

from __future__ import annotations

from pathlib import Path

from sowa.cli.console import Console
from sowa.core.files import write_bytes
from sowa.encoders.devices import describe_machine
from sowa.evaluation.benchmark import BenchmarkConfig, Network, run_benchmark
from sowa.evaluation.benchmark.figures import draw_shots, draw_sizes
from sowa.evaluation.benchmark.summary import FIELDS, TITLES, by_dataset, shots, summary
from sowa.evaluation.benchmark.tables import comma_separated, markdown


def benchmark_to_files(
    network: Network, root: Path, out: Path, config: BenchmarkConfig, console: Console, command: str = ""
) -> None:
    """Runs the suite, writes README.md, table.csv and images into ``out``, and prints the means.

    ``command`` is what README.md says was typed.
    """
    with console.progress() as report:
        rows = run_benchmark(network, root, out, config, report)
    draw_shots(rows, out / "shots.png")
    draw_sizes(rows, out / "sizes.png")
    write_bytes(out / "README.md", markdown(rows, command, describe_machine()).encode())
    write_bytes(out / "table.csv", comma_separated(rows).encode())
    console.skipped([(skip["image_path"], skip["why"]) for row in rows for skip in row["skipped"]])
    lines = []
    for name, of_set in by_dataset(rows).items():
        for k_shot in shots(of_set):
            means = [summary(of_set, k_shot, metric).mean for metric in FIELDS]
            lines.append([TITLES[name], len(of_set), k_shot, *means])
    console.table("means over categories and seeds", ["data set", "categories", "shots", *FIELDS.values()], lines)
    console.note(f"tables and images: {out / 'README.md'}")
