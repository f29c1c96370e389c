"""``sowa shots``: how many references a product needs, as a table, a curve, JSON and one sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sowa.cli.console import Console
from sowa.cli.product import load_product
from sowa.core.files import write_bytes
from sowa.core.types import ABNORMAL, NORMAL
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource, image_sources, sample_sources
from sowa.detector.detector import Sowa
from sowa.errors import InputError
from sowa.shots.config import ShotsConfig
from sowa.shots.curve import Choice
from sowa.shots.folds import cross_validate, suited
from sowa.shots.methods import METHODS
from sowa.shots.pool import Pool

AT_MOST = 100  # images of each kind, where nobody says otherwise
LABELS = {
    "real": "measured on real defects",
    "generated": "measured on defects drawn onto good parts, not on real ones",
    "none": "predicted from good parts alone",
}


def sources(
    normal: Path | None,
    dataset: str | None,
    root: Path | None,
    category: str | None,
    labels: str,
    at_most: int,
    seed: int,
) -> tuple[list[ImageSource], list[ImageSource] | None]:
    """Normal images, and real anomalous ones or None for generated defects; ``at_most`` of each, drawn by ``seed``.

    Raises InputError where it isn't said what the images are, or there are none of a kind.
    """
    if at_most < 1:
        raise InputError(f"--at-most is {at_most}, allowed is 1 and more")
    if (normal is None) == (dataset is None or root is None):
        raise InputError("give --normal FOLDER, or --dataset and --root")
    if normal is not None:
        if labels == "real":
            raise InputError("--labels real needs real anomalies; give them with --dataset and --root, not --normal")
        good = image_sources(normal)
        return draw(good, min(at_most, len(good)), seed), None
    samples = load_product(str(dataset), Path(str(root)), category)
    normals = [sample for sample in samples if sample.label == NORMAL and sample.split == "train"]
    bad = [sample for sample in samples if sample.label == ABNORMAL]
    if labels == "real" and not bad:
        raise InputError(f"{root} has no anomalous image, but --labels is real; add some, or take generated")
    found = [sample_sources(draw(part, min(at_most, len(part)), seed)) for part in (normals, bad)]
    return found[0], found[1] if labels == "real" else None


def chosen_shots(detector: Sowa, normal: Path, seed: int, batch_size: int, console: Console) -> int:
    """For ``sowa fit --k-shot auto``: by cross-validation on generated defects, with what the images allow."""
    good, _ = sources(normal, None, None, None, "generated", AT_MOST, seed)
    config = suited(ShotsConfig(seed=seed), len(good))
    pool = Pool(detector.encoder, good, seed=seed, batch_size=batch_size)
    with console.progress() as report:
        pool.report = report
        choice = cross_validate(pool, config, report)
    console.note(sentence(choice))
    return choice.chosen


def shots_to_files(
    pool: Pool,
    methods: Sequence[str],
    config: ShotsConfig,
    out: Path | None,
    json_file: Path | None,
    console: Console,
) -> None:
    """Runs the methods, prints a table and a sentence for each, draws the curves to ``out``, writes JSON."""
    choices: list[Choice] = []
    with console.progress() as report:
        pool.report = report
        for method in methods:
            choices.append(METHODS[method](pool, config, report))
    console.skipped(pool.skipped)
    if out:
        from sowa.cli.shots_figure import draw

        draw(choices, out)
    if json_file:
        write_bytes(json_file, (json.dumps([choice.to_dict() for choice in choices], indent=2) + "\n").encode())
    for choice in choices:
        console.table(
            f"{choice.method}: image AUROC ({LABELS[choice.labels]})",
            ["shots", "mean", "from", "to", ""],
            [[p.shots, p.mean, p.low, p.high, "take" if p.shots == choice.chosen else ""] for p in choice.points],
        )
        console.note(
            f"{choice.method}: {choice.reason}; {choice.fits} fits, {choice.seconds:.0f} s, of which encoding "
            f"{choice.encoded} images {choice.encoding:.0f} s"
        )
        console.say(sentence(choice), event="shots", **choice.to_dict())


def sentence(choice: Choice) -> str:
    """What a quality engineer is told."""
    at = next(point.mean for point in choice.points if point.shots == choice.chosen)
    images = "image" if choice.chosen == 1 else "images"
    more = f"; {choice.best} would gain {choice.gain:.3f}" if choice.gain > 0 else ""
    return (
        f"Take {choice.chosen} good {images}: of a good and a bad part the bad one is then called worse "
        f"{at:.0%} of the time{more} ({LABELS[choice.labels]})."
    )
