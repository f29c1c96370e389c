"""``sowa calibrate``: a detector's thresholds, set anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from sowa.cli.console import Console
from sowa.cli.options import (
    BOUNDARY,
    COMPUTE,
    Boundary,
    BoundaryFlags,
    ComputeFlags,
    MovedBackbone,
    basic,
    expected,
    load_product,
)
from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.core.types import Sample
    from sowa.detector.detector import Sowa

Rule = Literal["f1", "youden", "recall", "cost"]


def calibrate(
    *,
    model: Annotated[Path, basic("the detector that sowa fit wrote")],
    normal: Annotated[
        Path | None, basic("folder (or file, or glob pattern) of normal images that aren't its references")
    ] = None,
    boundary: BoundaryFlags = BOUNDARY,
    dataset: Annotated[
        str | None, basic("layout of labelled images: folder (ROOT/good, ROOT/bad), mvtec, visa")
    ] = None,
    root: Annotated[Path | None, basic("folder of the labelled images; all but the references are used")] = None,
    category: Annotated[str | None, basic("the category to use, where there are several")] = None,
    rule: Annotated[
        Rule | None, basic("f1, youden (true minus false positive rate), recall (no defect missed) or cost")
    ] = None,
    missed_cost: Annotated[
        float | None, basic("what a missed defect costs in false alarms, for --rule cost; 1 by default")
    ] = None,
    out: Annotated[Path | None, basic("file for the result; by default the detector's own")] = None,
    backbone: MovedBackbone = None,
    compute: ComputeFlags = COMPUTE,
) -> None:
    """Set a detector's thresholds anew, without fitting it again.

    From further normal images (--normal), or from labelled ones (--dataset, --root and --rule).
    With neither, from what it already knows, for another --false-positive-rate, --prior or --unsure.
    """
    from sowa.detector.detector import Sowa

    labelled = Labelled.of(dataset, root, category, rule, missed_cost)
    if labelled and (normal or boundary != BOUNDARY):
        raise InputError(
            "--rule takes labelled images; leave --normal, --false-positive-rate, --prior and --unsure out, or --rule"
        )
    detector = Sowa.load(model, backbone=backbone, settings=compute.settings())
    _calibrate(detector, labelled or normal, boundary, out or model, compute.batch_size)


@dataclass(frozen=True)
class Labelled:
    """Labelled images, and the rule that chooses a threshold on them."""

    dataset: str
    root: Path
    category: str | None
    rule: Rule
    missed_cost: float

    @classmethod
    def of(
        cls, dataset: str | None, root: Path | None, category: str | None, rule: Rule | None, missed_cost: float | None
    ) -> Self | None:
        """None where no flag speaks of labelled images. Raises InputError where only some of them are given."""
        if missed_cost is not None and (rule != "cost" or not 0 < missed_cost < float("inf")):
            raise InputError(f"--missed-cost {missed_cost} needs to be above 0, and --rule cost, not {rule}")
        if dataset is None and root is None and category is None and rule is None:
            return None
        if dataset is None or root is None:
            raise InputError("labelled images need --dataset and --root, such as --dataset folder --root parts")
        return cls(dataset, root, category, rule or "f1", missed_cost or 1.0)

    def load(self) -> list[Sample]:
        """Its samples. Raises InputError as `load_product` does."""
        return load_product(self.dataset, self.root, self.category)


def _calibrate(
    detector: Sowa,
    images: Labelled | Path | None,
    boundary: Boundary,
    out: Path,
    batch_size: int,
) -> None:
    """Calibrates on labelled or normal images, or on none, and saves the detector to ``out``."""
    console, before = Console(), detector.calibration_
    with console.progress() as report:
        if isinstance(images, Labelled):
            detector.calibrate_labelled(
                images.load(), images.rule, missed_cost=images.missed_cost, batch_size=batch_size, report=report
            )
        else:
            detector.calibrate(
                images,
                false_positive_rate=boundary.false_positive_rate,
                prior=boundary.prior,
                unsure=boundary.unsure,
                batch_size=batch_size,
                report=report,
            )
    detector.save(out)
    console.skipped(detector.skipped_)
    after = detector.calibration_
    console.say(
        f"{out}: threshold {before.threshold:.4f} -> {after.threshold:.4f}, of pixels {before.pixel_threshold:.4f} -> "
        f"{after.pixel_threshold:.4f}; {after.rule}, normal images seen: {after.seen}; "
        + expected(after.false_alarms, after.missed),
        event="calibrate",
        out=str(out),
        threshold=after.threshold,
        pixel_threshold=after.pixel_threshold,
        rule=after.rule,
        seen=after.seen,
        false_alarms=after.false_alarms,
        missed=after.missed,
    )
