"""``sowa shots``: how many references a product needs, as a table, a curve, JSON and one sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from sowa.cli.console import Console
from sowa.cli.options import (
    COMPUTE,
    NETWORK,
    SEEING,
    ComputeFlags,
    JsonFile,
    NetworkFlags,
    SeeingFlags,
    advanced,
    basic,
    load_product,
    numbers,
)
from sowa.core.files import write_bytes
from sowa.errors import InputError
from sowa.shots.config import ShotsConfig

if TYPE_CHECKING:
    from sowa.data.sources import ImageSource
    from sowa.detector.detector import Sowa
    from sowa.shots.curve import Choice
    from sowa.shots.pool import Pool

Method = Literal["cv", "progressive", "meta", "all"]
Labels = Literal["generated", "real"]
AT_MOST = 100  # images of each kind, where nobody says otherwise
LABELS = {
    "real": "measured on real defects",
    "generated": "measured on defects drawn onto good parts, not on real ones",
    "none": "predicted from good parts alone",
}


def shots(
    *,
    normal: Annotated[Path | None, basic("folder, file or glob pattern; defects are drawn onto these")] = None,
    dataset: Annotated[str | None, basic("with --root, a labelled data set in their place, as in sowa test")] = None,
    root: Annotated[Path | None, basic("the data set's folder")] = None,
    category: Annotated[str | None, basic("its category, where there are several")] = None,
    method: Annotated[Method, basic("cv (every number tried), progressive (until more don't help), meta, all")] = "cv",
    labels: Annotated[Labels, basic("generated (defects drawn onto good images) or real")] = "generated",
    candidates: Annotated[str, basic("numbers of reference images to compare, with commas")] = "1,2,4,8,16",
    out: Annotated[Path | None, basic("PNG file for the curves")] = None,
    json_file: JsonFile = None,
    seeing: SeeingFlags = SEEING,
    work: Annotated[Path | None, basic("folder for encoded images, so that a stopped run goes on where it was")] = None,
    network: NetworkFlags = NETWORK,
    folds: Annotated[int, advanced("parts of the images, each judged once by references from the others")] = 5,
    draws: Annotated[int, advanced("draws of references in each fold, for cv")] = 5,
    tolerance: Annotated[float, advanced("image AUROC that more images must bring, for progressive and meta")] = 0.0025,
    patience: Annotated[int, advanced("how many larger numbers in a row may fail to bring it")] = 2,
    at_most: Annotated[int, advanced("images of each kind that are used, drawn by the seed")] = AT_MOST,
    seed: Annotated[int, advanced("seed of folds, draws and defects")] = 0,
    compute: ComputeFlags = COMPUTE,
) -> None:
    """Find out how many reference images a product needs."""
    from sowa.detector.image_size import at_suited_size
    from sowa.encoders.torch_encoder import TorchEncoder
    from sowa.shots.feature_folder import FeatureFolder
    from sowa.shots.methods import METHODS
    from sowa.shots.pool import Pool

    config = ShotsConfig(numbers("candidates", candidates), folds, draws, tolerance, patience, seed)
    good, bad = _sources(normal, dataset, root, category, labels, at_most, seed)
    settings = seeing.settings(compute)
    encoder = at_suited_size(TorchEncoder.from_pretrained(**network.arguments(), settings=settings), good)
    folder = FeatureFolder(work, encoder) if work else None
    pool = Pool(encoder, good, bad, seed=seed, batch_size=compute.batch_size, folder=folder)
    _choose(pool, list(METHODS) if method == "all" else [method], config, out, json_file)


def _sources(
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
    from sowa.core.types import ABNORMAL, NORMAL
    from sowa.data.sampling import draw
    from sowa.data.sources import image_sources, sample_sources

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
    from sowa.detector.image_size import at_suited_size
    from sowa.shots.folds import cross_validate, suited
    from sowa.shots.pool import Pool

    good, _ = _sources(normal, None, None, None, "generated", AT_MOST, seed)
    config = suited(ShotsConfig(seed=seed), len(good))
    pool = Pool(at_suited_size(detector.encoder, good), good, seed=seed, batch_size=batch_size)
    with console.progress() as report:
        pool.report = report
        choice = cross_validate(pool, config, report)
    console.note(_sentence(choice))
    return choice.chosen


def _choose(pool: Pool, methods: Sequence[str], config: ShotsConfig, out: Path | None, json_file: Path | None) -> None:
    """Runs the methods; a table and a sentence for each, curves and numbers to files."""
    from sowa.shots.methods import METHODS

    console = Console()
    with console.progress() as report:
        pool.report = report
        choices = [METHODS[method](pool, config, report) for method in methods]
    console.skipped(pool.skipped)
    if out:
        from sowa.shots.figure import draw

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
        console.say(_sentence(choice), event="shots", **choice.to_dict())


def _sentence(choice: Choice) -> str:
    """What a quality engineer is told."""
    at = next(point.mean for point in choice.points if point.shots == choice.chosen)
    images = "image" if choice.chosen == 1 else "images"
    more = f"; {choice.best} would gain {choice.gain:.3f}" if choice.gain > 0 else ""
    return (
        f"Take {choice.chosen} good {images}: of a good and a bad part the bad one is then called worse "
        f"{at:.0%} of the time{more} ({LABELS[choice.labels]})."
    )
