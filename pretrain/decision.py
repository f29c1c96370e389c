"""Where the boundary between normal and anomalous lies, learned over many products: the rule that ships.

    python pretrain/decision.py BUILD/decision src/sowa/weights/decision.json

Reads what `pretrain/decision_products.py` measured, in seconds. What is printed is of products left out in turn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from decision_products import MeasuredRun, MeasuredZeroShot, Pixels
from numpy.typing import NDArray
from scipy.optimize import minimize

from sowa.core.config import from_dict
from sowa.core.decision import LEAST_DAMAGE, DecisionRule, Traits
from sowa.core.files import write_bytes
from sowa.core.normal_range import NormalRange, range_of_references

Floats = NDArray[np.float64]
RIDGE = 1e-2  # keeps coefficients near where they begin, where products say little
SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)  # of wrong verdicts, for which a band is told
RATES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)  # at which expected false alarms and misses are fitted
HARDEST = 0.15  # share of products that bands can't be promised for
FEWEST = 2  # references of a run that tells of bands: a single one shows nothing of how far apart pieces lie
POSITION, WIDTH = (0.5, 0.0), (0.5, 0.5, 0.0, -0.5)  # where fitting begins


@dataclass(frozen=True)
class Mask:
    """The masks' F1 at some thresholds, none where that isn't known or no threshold finds anything."""

    thresholds: Floats
    f1: Floats

    @classmethod
    def of(cls, pixels: Pixels | None, scale: Callable[[Floats], Floats]) -> Mask:
        if pixels is None or not any(pixels.found):
            return cls(np.zeros(0), np.zeros(0))
        found, false, missed = (np.array(part, np.float64) for part in (pixels.found, pixels.false, pixels.missed))
        return cls(scale(np.array(pixels.thresholds)), 2 * found / np.maximum(2 * found + false + missed, 1))

    def share(self, threshold: float) -> float:
        """Of the best threshold's F1."""
        return float(np.interp(threshold, self.thresholds, self.f1) / self.f1.max())


@dataclass(frozen=True)
class Run:
    """A measured run in logarithms above the centre of normal images, and its traits."""

    product: str
    shots: int
    good: Floats
    bad: Floats
    damaged: Floats
    image: NormalRange
    traits: Traits
    pixel_traits: Traits
    mask: Mask

    @classmethod
    def of(cls, product: str, measured: MeasuredRun) -> Run:
        image = range_of_references(measured.left_out, measured.shots)
        pixel = range_of_references(measured.left_out_maxima, measured.shots)
        return cls(
            product=product,
            shots=measured.shots,
            good=np.log(measured.good) - image.centre,
            bad=np.log(measured.bad) - image.centre,
            damaged=np.array(measured.damaged) - image.centre,
            image=image,
            traits=Traits.of(measured.damaged, image),
            pixel_traits=Traits.of(measured.damaged_maps, pixel),
            mask=Mask.of(measured.pixels, lambda thresholds: np.log(thresholds) - pixel.centre),
        )


@dataclass(frozen=True)
class Product:
    name: str
    zero_shot_good: Floats
    zero_shot_bad: Floats
    zero_shot_mask: Mask
    runs: list[Run]


@dataclass(frozen=True)
class Judged:
    """Scores of good and bad images of a run, by what other products taught."""

    run: Run
    good: Floats
    bad: Floats


@dataclass(frozen=True)
class Table:
    """Values (N,) of images, 1 where ``bad``, and what each counts: products equally, of each good and bad ones."""

    values: Floats
    bad: Floats
    weights: Floats
    run: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[tuple[str, Floats, Floats]]) -> Table:
        """From a product's name, its good and its bad images, for each run."""
        names = [name for name, _, _ in parts]
        weights = [
            np.r_[np.full(len(good), 0.5 / len(good)), np.full(len(bad), 0.5 / len(bad))] / names.count(name)
            for name, good, bad in parts
        ]
        return cls(
            values=np.concatenate([np.r_[good, bad] for _, good, bad in parts]),
            bad=np.concatenate([np.r_[np.zeros(len(good)), np.ones(len(bad))] for _, good, bad in parts]),
            weights=np.concatenate(weights) / len(set(names)),
            run=np.concatenate([np.full(len(good) + len(bad), n) for n, (_, good, bad) in enumerate(parts)]),
        )


def read(folder: Path) -> list[Product]:
    found = []
    for path in sorted(folder.glob("*.json")):
        told = json.loads(path.read_text())
        runs = [Run.of(told["name"], from_dict(MeasuredRun, one)) for one in told["runs"]]
        alone = from_dict(MeasuredZeroShot, told["zero_shot"])
        found.append(Product(told["name"], np.log(alone.good), np.log(alone.bad), Mask.of(alone.pixels, np.log), runs))
    return found


def places(traits: Sequence[Traits]) -> Floats:
    """What positions are coefficients of, (R, 2)."""
    return np.array([[one.damage, one.damage * one.few] for one in traits])


def shapes(traits: Sequence[Traits]) -> Floats:
    """What widths are coefficients of, (R, 4)."""
    return np.array([[np.log(max(one.damage, LEAST_DAMAGE)), np.log(one.spread), one.few, 1.0] for one in traits])


def log_loss(logits: Floats, bad: Floats, weights: Floats) -> float:
    return float((weights * (np.logaddexp(0, logits) - bad * logits)).sum())


def minimised(loss, start: Sequence[float]) -> Floats:  # type: ignore[no-untyped-def]
    """Where a loss of coefficients is least, drawn a little to where they start."""
    begin = np.array(start)
    found = minimize(
        lambda x: loss(x) + RIDGE * float(((x - begin) ** 2).sum()),
        begin,
        method="Nelder-Mead",
        options={"maxiter": 5000},
    )
    return np.array(found.x)


def fit_boundary(runs: Sequence[Run]) -> tuple[Floats, Floats]:
    """Position and width that make the labels of held-out images likeliest."""
    table = Table.of([(run.product, run.good, run.bad) for run in runs])
    traits = [run.traits for run in runs]
    place, shape = places(traits), shapes(traits)

    def loss(found: Floats) -> float:
        middle, width = np.maximum(place @ found[:2], 0), np.exp(np.clip(shape @ found[2:], -6, 2))
        return log_loss((table.values - middle[table.run]) / width[table.run], table.bad, table.weights)

    best = minimised(loss, (*POSITION, *WIDTH))
    return best[:2], best[2:]


def fit_pixels(runs: Sequence[Run]) -> Floats:
    """Position at which the mask's F1 comes nearest to the best one."""
    masked = [run for run in runs if len(run.mask.f1)]
    place = places([run.pixel_traits for run in masked])
    names = [run.product for run in masked]
    weights = np.array([1 / names.count(name) for name in names]) / len(set(names))

    def loss(found: Floats) -> float:
        middles = np.maximum(place @ found, 0)
        return -float(weights @ [run.mask.share(middle) for run, middle in zip(masked, middles, strict=True)])

    return minimised(loss, POSITION)


def fit_expected(runs: Sequence[Run]) -> tuple[Floats, Floats]:
    """Maps from what references tell of false alarms and of misses to what held-out images have."""
    names = [run.product for run in runs]
    rows = []
    for run in runs:
        for rate in RATES:
            at = np.log(run.image.bound(rate)) - run.image.centre
            below = (np.sum(run.damaged <= at) + 0.5) / (len(run.damaged) + 1)
            told, weight = np.log(rate / (1 - rate)), 1 / names.count(run.product) / len(RATES) / len(set(names))
            missed = np.log(below / (1 - below))
            rows.append((weight, run.traits.few, told, np.mean(run.good > at), missed, np.mean(run.bad <= at)))
    weights, few, told, alarms, below, misses = np.array(rows).T
    false_alarms = minimised(lambda x: log_loss(told + few * (x[0] + x[1] * told), alarms, weights), (0.0, 0.0))
    return false_alarms, minimised(lambda x: log_loss(x[0] + x[1] * below, misses, weights), (0.0, 1.0))


def chances(values: Floats, middle: float, width: float) -> Floats:
    return np.array(1 / (1 + np.exp(-np.clip((values - middle) / width, -500, 500))))


def leave_products_out(products: Sequence[Product]) -> list[Judged]:
    """Every run's scores, by what the other products taught."""
    found = []
    for product in products:
        position, width = fit_boundary([run for other in products if other is not product for run in other.runs])
        for run in product.runs:
            middle = max(float(places([run.traits])[0] @ position), 0.0)
            scale = float(np.exp(np.clip(shapes([run.traits])[0] @ width, -6, 2)))
            found.append(Judged(run, *(chances(part, middle, scale) for part in (run.good, run.bad))))
    return found


def bands(parts: Sequence[tuple[str, Floats, Floats]]) -> list[tuple[float, float, float]]:
    """For each of `SHARES` the narrowest band around a half outside which no more verdicts are wrong, in the mean over
    products without the `HARDEST`: on those no band would do, and the others needn't suffer for them."""
    table, names = Table.of(parts), [name for name, _, _ in parts]
    sureness, wrong = np.abs(table.values - 0.5), (table.values > 0.5) != (table.bad > 0)
    product = np.array([names.index(name) for name in names])[table.run]
    halves, shares = np.linspace(0, 0.495, 100), []
    for half in halves:
        sure = sureness >= half
        of_product = sorted(
            (table.weights * wrong)[own].sum() / table.weights[own].sum()
            for own in (sure & (product == number) for number in set(product.tolist()))
            if own.any()
        )
        kept = of_product[: max(1, round((1 - HARDEST) * len(of_product)))]
        shares.append(float(np.mean(kept)) if kept else 0.0)
    widest = np.maximum.accumulate(shares[::-1])[::-1]  # what is wrong outside any wider band, too
    rows = []
    for share in SHARES:
        allowed = np.flatnonzero(widest <= share)
        half = float(halves[allowed[0]]) if len(allowed) else 0.5
        rows.append((share, round(0.5 - half, 3), round(0.5 + half, 3)))
    return rows


def fit_zero_shot(products: Sequence[Product]) -> tuple[float, float]:
    """The logarithm of the threshold, and the width, of an image by itself."""
    table = Table.of([(one.name, one.zero_shot_good, one.zero_shot_bad) for one in products])
    start = np.array([float(table.weights @ table.values), np.log(0.2)])
    found = minimize(
        lambda x: log_loss((table.values - x[0]) / np.exp(x[1]), table.bad, table.weights), start, method="Nelder-Mead"
    ).x
    return float(found[0]), float(np.exp(found[1]))


def fit_zero_shot_pixels(products: Sequence[Product]) -> float:
    """Where the zero-shot mask's F1 comes nearest to the best one, of what the map can show at most."""
    masks = [one.zero_shot_mask for one in products if len(one.zero_shot_mask.f1)]
    logs = masks[0].thresholds
    gained = [np.mean([mask.share(log) for mask in masks]) for log in logs]
    return float(np.exp(logs[int(np.argmax(gained))] - logs[-1]))


def learn(products: Sequence[Product], left_out: Sequence[Judged]) -> DecisionRule:
    """The bands are those of products ``left_out`` of what judged them."""
    runs = [run for product in products for run in product.runs]
    position, width = fit_boundary(runs)
    false_alarms, missed = fit_expected(runs)
    boundary, self_width = fit_zero_shot(products)
    zero_shot = [
        (
            one.name,
            chances(one.zero_shot_good, boundary, self_width),
            chances(one.zero_shot_bad, boundary, self_width),
        )
        for one in products
    ]
    found = {
        "position": position,
        "width": width,
        "pixel_position": fit_pixels(runs),
        "false_alarms": false_alarms,
        "missed": missed,
        "self_boundary": (np.exp(boundary) - 0.5) / 8,  # of mini: self-weight 2, four levels
        "self_width": self_width,
        "self_pixel_boundary": fit_zero_shot_pixels(products),
    }
    rounded: dict[str, Any] = {name: np.round(value, 4).tolist() for name, value in found.items()}
    several = [(one.run.product, one.good, one.bad) for one in left_out if one.run.shots >= FEWEST]
    unsure, self_unsure = bands(several), bands(zero_shot)
    return from_dict(DecisionRule, rounded | {"unsure": unsure, "self_unsure": self_unsure, "products": len(products)})


def main(folder: Path, target: Path) -> None:
    from decision_report import report

    products = read(folder)
    left_out = leave_products_out(products)
    rule = learn(products, left_out)
    report(left_out, rule)
    write_bytes(target, (json.dumps(asdict(rule), indent=1) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
