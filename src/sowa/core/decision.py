"""Where normal ends and anomalous begins, as many products taught it.

References left out of the bank show what is normal; the same references with generated damage show what a defect does
on this product. How far the boundary lies between the two, how gently the chance of a defect rises around it, and what
can be expected of it was learned by ``pretrain/decision.py``, a product a task, on held-out good and bad images. All
numbers are logarithms, and differences of them, so that products of any scale are alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sowa.core.config import from_dict
from sowa.core.files import packaged
from sowa.core.normal_range import NormalRange
from sowa.errors import InputError

LEAST_DAMAGE = 0.05  # damage that shows less than that, as a logarithm, tells nothing of where defects lie


@dataclass(frozen=True)
class Traits:
    """What references tell of a product, in logarithms.

    Attributes:
        damage: How far damaged references lie above normal ones.
        spread: Of normal images, above 0.
        few: One over how many normal images were seen, of a single one's variants 1.
    """

    damage: float
    spread: float
    few: float

    @classmethod
    def of(cls, damaged: Sequence[float] | NDArray[np.float64], normal: NormalRange) -> Traits:
        """From logarithms of what ``damaged`` references show, and where normal ones lie."""
        return cls(float(np.mean(damaged)) - normal.centre, normal.width, 1 / (len(normal.logs) or 1))


@dataclass(frozen=True)
class DecisionRule:
    """What was learned.

    Attributes:
        position: What share of ``damage`` the image's boundary lies above the centre of normal images: where many
            images were seen, and what is added times ``few``.
        width: Of the logarithm of how gently the chance rises: coefficients of the logarithms of ``damage`` and
            ``spread`` and of ``few``, and a constant.
        pixel_position: As ``position``, for pixels.
        false_alarms: Constant and slope of what is added to the logit of the share of normal images above a threshold
            that their range tells, divided by how many were seen: few mislead, many don't.
        missed: Constant and slope: the logit of the share of bad images below it, from that of damaged references.
        unsure: Rows of (share, low, high), the shares ascending: outside these two scores fewer verdicts than that are
            wrong, in the mean over all products but the hardest 15 %.
        self_boundary: Without references, of what an image's own patches show at each level, where normal ends.
        self_width: Without references, how gently the chance rises.
        self_pixel_boundary: Without references, of what the prompts' map can show at most, where normal pixels end.
        self_unsure: As ``unsure``, without references.
        products: How many products taught it.
    """

    position: tuple[float, float]
    width: tuple[float, float, float, float]
    pixel_position: tuple[float, float]
    false_alarms: tuple[float, float]
    missed: tuple[float, float]
    unsure: tuple[tuple[float, float, float], ...]
    self_boundary: float
    self_width: float
    self_pixel_boundary: float
    self_unsure: tuple[tuple[float, float, float], ...]
    products: int

    def place(self, traits: Traits, pixels: bool = False) -> float:
        """The boundary above the centre of normal images; never below it."""
        share, more = self.pixel_position if pixels else self.position
        return max(traits.damage * (share + more * traits.few), 0.0)

    def gentleness(self, traits: Traits) -> float:
        """The scale of the logistic curve by which the chance of a defect rises with the logarithm of a raw score."""
        damage, spread, few, constant = self.width
        logs = damage * math.log(max(traits.damage, LEAST_DAMAGE)) + spread * math.log(traits.spread)
        return math.exp(logs + few * traits.few + constant)

    def expected_false_alarms(self, told: float, images: int) -> float:
        """Share of normal images to expect above a threshold, where their range, seen on ``images``, tells ``told``."""
        constant, slope = self.false_alarms
        return logistic(logit(told) + (constant + slope * logit(told)) / images)

    def told_false_alarms(self, expected: float, images: int) -> float:
        """What their range must tell for this share to be expected: undoes `expected_false_alarms`."""
        constant, slope = self.false_alarms
        return logistic((logit(expected) - constant / images) / (1 + slope / images))

    def expected_missed(self, below: int, damaged: int) -> float:
        """Share of bad images to expect below a threshold that so many of the ``damaged`` references lie below."""
        constant, slope = self.missed
        return logistic(constant + slope * logit((below + 0.5) / (damaged + 1)))

    def band(self, wrong: float, references: bool = True) -> tuple[float, float]:
        """The scores between which a verdict is wrong more often than that, around 0.5.

        Args:
            wrong: Share of verdicts, 0 to 0.5.
            references: Whether there are any.
        """
        check_wrong(wrong)
        share, low, high = np.array(self.unsure if references else self.self_unsure).T
        return min(float(np.interp(wrong, share, low)), 0.5), max(float(np.interp(wrong, share, high)), 0.5)


@cache
def learned_rule() -> DecisionRule:
    """The rule that ships with the package."""
    return from_dict(DecisionRule, json.loads(packaged("decision.json").read_text(encoding="utf-8")))


def logistic(value: float) -> float:
    """0..1, 0.5 at 0; never overflows."""
    return 0.5 * (1 + math.tanh(0.5 * value))


def logit(share: float) -> float:
    """Undoes `logistic`; of a share so near to 0 or 1 that it would be infinite, that of the nearest finite one."""
    share = min(max(share, 1e-12), 1 - 1e-12)
    return math.log(share / (1 - share))


def check_prior(prior: float) -> None:
    """Raises InputError where a share of bad parts isn't between 0 and 1."""
    if not 0 < prior < 1:
        raise InputError(f"prior is {prior}, allowed is above 0 and below 1: the share of bad parts, such as 0.5")


def check_wrong(wrong: float) -> None:
    """Raises InputError where a share of wrong verdicts isn't from 0 to 0.5."""
    if not 0 <= wrong <= 0.5:
        raise InputError(
            f"unsure is {wrong}, allowed is 0 to 0.5: how often a verdict that isn't unsure may be wrong, such as 0.05"
        )
