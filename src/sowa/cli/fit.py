"""``sowa fit``: images of good parts in, a detector's file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from sowa.cli.console import Console
from sowa.cli.options import (
    BOUNDARY,
    COMPUTE,
    NETWORK,
    SEEING,
    Augment,
    BoundaryFlags,
    ComputeFlags,
    Expect,
    NetworkFlags,
    Normal,
    SaliencyWeight,
    SeeingFlags,
    advanced,
    augmentation,
    basic,
    expected,
    extensions,
)
from sowa.cli.shots import chosen_shots

if TYPE_CHECKING:
    from sowa.detector.detector import Sowa

TIMED = 3  # times that an image is judged, the fastest of which counts
KShot = int | Literal["auto"] | None


def fit(
    *,
    normal: Normal,
    out: Annotated[Path, basic("the detector's file, *.sowa")],
    k_shot: Annotated[KShot, basic("references, drawn by the seed; all by default, auto finds out how many")] = None,
    boundary: BoundaryFlags = BOUNDARY,
    seeing: SeeingFlags = SEEING,
    category: Annotated[str | None, basic("class whose prompts are used, where the weights know several")] = None,
    network: NetworkFlags = NETWORK,
    seed: Annotated[int, advanced("seed of the draw")] = 0,
    coreset: Annotated[bool, advanced("with --k-shot, take the images that the others look most like")] = False,
    patch_fraction: Annotated[float | None, advanced("share of patches to keep; all of some dozen images")] = None,
    augment: Augment = "auto",
    saliency_weight: SaliencyWeight = 0.0,
    expect: Expect = None,
    glances: Annotated[int | None, advanced("with --tiled, look at so many windows only, chosen one by one")] = None,
    compute: ComputeFlags = COMPUTE,
) -> None:
    """Learn what normal looks like from images of good parts, and save a detector."""
    from sowa.core.calibration import check_shares
    from sowa.detector.detector import Sowa

    check_shares(boundary.false_positive_rate, boundary.prior, boundary.unsure)
    console = Console()
    named, settings = network.arguments(), seeing.settings(compute, category)
    detector = Sowa.from_pretrained(**named, settings=settings, extensions=extensions(saliency_weight, expect, glances))
    if k_shot == "auto":
        k_shot = chosen_shots(detector, normal, seed, compute.batch_size, console)
    with console.progress() as report:
        detector.fit(
            normal,
            k_shot=k_shot,
            seed=seed,
            coreset=coreset,
            patch_fraction=patch_fraction,
            augment=augmentation(augment),
            batch_size=compute.batch_size,
            report=report,
        )
    detector.calibrate(false_positive_rate=boundary.false_positive_rate, prior=boundary.prior, unsure=boundary.unsure)
    _save(detector, out, console)


def _save(detector: Sowa, out: Path, console: Console) -> None:
    detector.save(out)
    console.skipped(detector.skipped_)
    calibration, (height, width) = detector.calibration_, detector.image_size
    seconds = min(detector.predict(detector.references_[0])[0].seconds for _ in range(TIMED))
    console.say(
        f"{out}: {len(detector.references_)} reference images, seen at {width} x {height} pixels, {seconds:.2f} s an "
        f"image; threshold {calibration.threshold:.4f}; " + expected(calibration.false_alarms, calibration.missed),
        event="fit",
        out=str(out),
        references=detector.references_,
        image_size=[height, width],
        seconds_per_image=seconds,
        threshold=calibration.threshold,
        false_alarms=calibration.false_alarms,
        missed=calibration.missed,
    )
