"""``sowa calibrate``: a detector's thresholds, set anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sowa.cli.console import Console
from sowa.cli.product import load_product
from sowa.core.calibration import Rule
from sowa.core.types import Sample
from sowa.detector.detector import Sowa
from sowa.errors import InputError


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


def calibrate_file(
    detector: Sowa,
    images: Labelled | Path | None,
    false_positive_rate: float,
    out: Path,
    batch_size: int,
    console: Console,
) -> None:
    """Calibrates on labelled or normal images, or on none, and saves the detector to ``out``."""
    before = detector.calibration_
    with console.progress() as report:
        if isinstance(images, Labelled):
            detector.calibrate_labelled(
                images.load(), images.rule, missed_cost=images.missed_cost, batch_size=batch_size, report=report
            )
        else:
            detector.calibrate(images, false_positive_rate=false_positive_rate, batch_size=batch_size, report=report)
    detector.save(out)
    console.skipped(detector.skipped_)
    after = detector.calibration_
    console.say(
        f"{out}: threshold {before.threshold:.4f} -> {after.threshold:.4f}, of pixels {before.pixel_threshold:.4f} -> "
        f"{after.pixel_threshold:.4f}; {after.rule}, normal images seen: {after.seen}",
        event="calibrate",
        out=str(out),
        threshold=after.threshold,
        pixel_threshold=after.pixel_threshold,
        rule=after.rule,
        seen=after.seen,
    )
