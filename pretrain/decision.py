"""Where the boundary between normal and anomalous lies, learned over many products: the rule that ships.

    python pretrain/decision.py BUILD/decision src/sowa/weights/decision.json

Reads what `pretrain/decision_products.py` measured, in seconds. What is printed is of products left out in turn: of
generated ones each category is a product.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from decision_products import MeasuredRun
from numpy.typing import NDArray
from scipy.optimize import minimize

from sowa.core.decision import LEAST_DAMAGE, DecisionRule, Traits, logistic
from sowa.core.files import write_bytes
from sowa.core.normal_range import NormalRange, range_of_references

Floats = NDArray[np.float64]
RIDGE = 1e-2  # keeps coefficients near where they begin, where products say little
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # of wrong verdicts, for which a band is told
RATES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)  # at which expected false alarms and misses are fitted
POSITION, WIDTH = (0.5, 0.0, 0.0, 0.0), (0.5, 0.5, -0.5)  # where fitting begins


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
    pixel_thresholds: Floats
    pixel_f1: Floats

    @classmethod
    def of(cls, product: str, measured: MeasuredRun) -> Run:
        image = range_of_references(measured.left_out, measured.shots)
        pixel = range_of_references(measured.left_out_maxima, measured.shots)
        found, false, missed = (
            np.array(part, np.float64) for part in (measured.found, measured.false, measured.missed)
        )
        return cls(
            product=product,
            shots=measured.shots,
            good=np.log(measured.good) - image.centre,
            bad=np.log(measured.bad) - image.centre,
            damaged=np.array(measured.damaged) - image.centre,
            image=image,
            traits=Traits.of(measured.damaged, image),
            pixel_traits=Traits.of(measured.damaged_maps, pixel),
            pixel_thresholds=np.log(measured.thresholds) - pixel.centre if measured.thresholds else np.zeros(0),
            pixel_f1=2 * found / np.maximum(2 * found + false + missed, 1),
        )


@dataclass(frozen=True)
class Product:
    name: str
    zero_shot_good: Floats
    zero_shot_bad: Floats
    runs: list[Run]


def read(folder: Path) -> list[Product]:
    found = []
    for path in sorted(folder.glob("*.json")):
        told = json.loads(path.read_text())
        runs = [Run.of(told["name"], MeasuredRun(**one)) for one in told["runs"]]
        good, bad = (np.log(told[f"zero_shot_{kind}"]) for kind in ("good", "bad"))
        found.append(Product(told["name"], good, bad, runs))
    return found


def places(traits: Sequence[Traits]) -> Floats:
    """(R, 4)."""
    return np.array([[one.damage, one.weak, one.spread, one.few] for one in traits])


def shapes(runs: Sequence[Run]) -> Floats:
    """Of the width, (R, 3)."""
    return np.array([[np.log(max(run.traits.damage, LEAST_DAMAGE)), np.log(run.traits.spread), 1.0] for run in runs])


def log_loss(logits: Floats, bad: Floats, weights: Floats) -> float:
    return float((weights * (np.logaddexp(0, logits) - bad * logits)).sum())


def fit_boundary(runs: Sequence[Run]) -> tuple[Floats, Floats]:
    """Position and width that make held-out labels likeliest: products, and good and bad images, count equally."""
    index = np.concatenate([np.full(len(run.good) + len(run.bad), number) for number, run in enumerate(runs)])
    values = np.concatenate([np.concatenate([run.good, run.bad]) for run in runs])
    bad = np.concatenate([np.r_[np.zeros(len(run.good)), np.ones(len(run.bad))] for run in runs])
    many = {name: sum(run.product == name for run in runs) for name in {run.product for run in runs}}
    weights = np.concatenate(
        [
            np.r_[np.full(len(run.good), 0.5 / len(run.good)), np.full(len(run.bad), 0.5 / len(run.bad))]
            / many[run.product]
            for run in runs
        ]
    ) / len(many)
    place, shape = places([run.traits for run in runs]), shapes(runs)
    start = np.array([*POSITION, *WIDTH])

    def loss(found: Floats) -> float:
        middle, width = np.maximum(place @ found[:4], 0), np.exp(np.clip(shape @ found[4:], -6, 2))
        logits = (values - middle[index]) / width[index]
        return log_loss(logits, bad, weights) + RIDGE * float(((found - start) ** 2).sum())

    best = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000, "maxfev": 4000, "adaptive": True}).x
    return best[:4], best[4:]


def fit_pixels(runs: Sequence[Run]) -> Floats:
    """Position at which the mask's F1 comes nearest to the best one."""
    masked = [run for run in runs if len(run.pixel_thresholds) and run.pixel_f1.max() > 0]
    place = places([run.pixel_traits for run in masked])
    start = np.array(POSITION)

    def loss(found: Floats) -> float:
        middles = np.maximum(place @ found, 0)
        reached = [f1_at(run, middle) / run.pixel_f1.max() for run, middle in zip(masked, middles, strict=True)]
        return -mean_by_product(masked, reached) + RIDGE * float(((found - start) ** 2).sum())

    return np.array(minimize(loss, start, method="Nelder-Mead", options={"maxiter": 2000, "adaptive": True}).x)


def f1_at(run: Run, middle: float) -> float:
    return float(np.interp(middle, run.pixel_thresholds, run.pixel_f1))


def mean_by_product(runs: Sequence[Run], values: Sequence[float]) -> float:
    names = dict.fromkeys(run.product for run in runs)
    return float(
        np.mean([np.mean([v for r, v in zip(runs, values, strict=True) if r.product == name]) for name in names])
    )


def fit_expected(runs: Sequence[Run]) -> tuple[Floats, Floats]:
    """Maps from what references tell of false alarms and misses to what held-out images have."""
    alarms, misses = list[list[float]](), list[list[float]]()
    weights = list[float]()
    many = {name: sum(run.product == name for run in runs) for name in {run.product for run in runs}}
    for run in runs:
        for rate in RATES:
            at = np.log(run.image.bound(rate)) - run.image.centre
            below = (np.sum(run.damaged <= at) + 0.5) / (len(run.damaged) + 1)
            told, few = np.log(rate / (1 - rate)), 1 / (len(run.image.logs) or 1)
            alarms.append([few, few * told, told, np.mean(run.good > at)])
            misses.append([1.0, np.log(below / (1 - below)), 0.0, np.mean(run.bad <= at)])
            weights.append(1 / many[run.product] / len(RATES) / len(many))

    def fit(rows: list[list[float]], start: Sequence[float]) -> Floats:
        """Of rows of two factors, what is added to them, and the share that is observed."""
        table = np.array(rows)

        def loss(found: Floats) -> float:
            ridge = RIDGE * float(((found - np.array(start)) ** 2).sum())
            return log_loss(table[:, :2] @ found + table[:, 2], table[:, 3], np.array(weights)) + ridge

        return np.array(minimize(loss, np.array(start), method="Nelder-Mead", options={"maxiter": 2000}).x)

    return fit(alarms, (0.0, 0.0)), fit(misses, (0.0, 1.0))


def chances(run: Run, position: Floats, width: Floats) -> tuple[Floats, Floats]:
    """Of good and of bad images to be bad."""
    middle = max(float(places([run.traits])[0] @ position), 0.0)
    scale = float(np.exp(np.clip(shapes([run])[0] @ width, -6, 2)))
    good, bad = (np.array([logistic((value - middle) / scale) for value in part]) for part in (run.good, run.bad))
    return good, bad


def bands(pairs: Sequence[tuple[str, Floats, Floats]]) -> tuple[tuple[float, float, float], ...]:
    """For each of `SHARES` the scores outside which verdicts are wrong no more often, products counting equally.

    ``pairs`` are a product's name and the scores of its good and of its bad images, which count equally.
    """
    share = {name: sum(other == name for other, _, _ in pairs) for name, _, _ in pairs}
    scores = np.concatenate([np.r_[good, bad] for _, good, bad in pairs])
    weights = np.concatenate(
        [np.r_[np.full(len(g), 1 / len(g)), np.full(len(b), 1 / len(b))] / share[name] for name, g, b in pairs]
    )
    bad = np.concatenate([np.r_[np.zeros(len(g)), np.ones(len(b))] for _, g, b in pairs])
    rows = []
    for wrong in SHARES:
        low = edge(scores, weights, bad, wrong)
        high = 1 - edge(1 - scores, weights, 1 - bad, wrong)
        rows.append((wrong, round(min(low, 0.5), 4), round(max(high, 0.5), 4)))
    return tuple(rows)


def edge(scores: Floats, weights: Floats, bad: Floats, wrong: float) -> float:
    """The highest score below which no more than that share is bad."""
    order = np.argsort(scores)
    below = np.cumsum((weights * bad)[order]) / np.cumsum(weights[order])
    allowed = np.flatnonzero(below <= wrong)
    return float(scores[order][allowed[-1]]) if len(allowed) else 0.0


def fit_zero_shot(products: Sequence[Product]) -> tuple[float, float]:
    """The logarithm of the threshold, and the width."""
    pairs = [(p.zero_shot_good, p.zero_shot_bad) for p in products]

    def loss(found: Floats) -> float:
        total = 0.0
        for good, bad in pairs:
            for part, label in ((good, 0.0), (bad, 1.0)):
                logits = (part - found[0]) / np.exp(found[1])
                total += log_loss(logits, np.full(len(part), label), np.full(len(part), 1 / len(part)))
        return total

    start = np.array([np.mean([np.mean(np.r_[good, bad]) for good, bad in pairs]), np.log(0.2)])
    found = minimize(loss, start, method="Nelder-Mead").x
    return float(found[0]), float(np.exp(found[1]))


def learn(products: Sequence[Product], left_out: Sequence[tuple[str, Floats, Floats]]) -> DecisionRule:
    """``left_out`` are scores of products that taught nothing of what judged them: the bands are theirs."""
    runs = [run for product in products for run in product.runs]
    position, width = fit_boundary(runs)
    alarms, missed = fit_expected(runs)
    boundary, self_width = fit_zero_shot(products)

    def chance(values: Floats) -> Floats:
        return np.array([logistic((value - boundary) / self_width) for value in values])

    zero_shot = [(p.name, chance(p.zero_shot_good), chance(p.zero_shot_bad)) for p in products]

    def rounded(values: Floats) -> tuple[float, ...]:
        return tuple(np.round(values, 4).tolist())

    return DecisionRule(
        position=rounded(position),  # type: ignore[arg-type]
        width=rounded(width),  # type: ignore[arg-type]
        pixel_position=rounded(fit_pixels(runs)),  # type: ignore[arg-type]
        false_alarms=rounded(alarms),  # type: ignore[arg-type]
        missed=rounded(missed),  # type: ignore[arg-type]
        unsure=bands(left_out),
        self_boundary=round((np.exp(boundary) - 0.5) / 8, 4),
        self_width=round(self_width, 4),
        self_unsure=bands(zero_shot),
        products=len(products),
    )


def leave_products_out(
    products: Sequence[Product], judge: Callable[[Sequence[Run]], tuple[Floats, Floats]]
) -> list[tuple[Run, Floats, Floats]]:
    """Every run with the chances of its good and bad images, by what the other products taught."""
    found = []
    for product in products:
        others = [run for other in products if other.name != product.name for run in other.runs]
        position, width = judge(others)
        found += [(run, *chances(run, position, width)) for run in product.runs]
    return found


def share(chosen: NDArray[np.bool_]) -> float:
    return float(np.mean(chosen)) if len(chosen) else np.nan


def best_accuracy(good: Floats, bad: Floats) -> float:
    """Balanced accuracy of the threshold that is best in hindsight."""
    cuts = np.r_[good, bad, np.inf]
    return max(float(np.mean(good < cut) + np.mean(bad >= cut)) / 2 for cut in cuts)


def tell(left_out: Sequence[tuple[Run, Floats, Floats]], rule: DecisionRule) -> None:
    """A line a product and number of shots, means over draws."""
    low, high = rule.band(0.05)
    rows: dict[tuple[str, int], list[Floats]] = {}
    for run, good, bad in left_out:
        halfway = 0.5 * run.traits.damage
        rate = np.log(run.image.bound(0.01)) - run.image.centre
        sure_good, sure_bad = (part[(part <= low) | (part >= high)] for part in (good, bad))
        right = np.r_[share(sure_good < 0.5), share(sure_bad > 0.5)]
        told = (
            (np.mean(good < 0.5) + np.mean(bad > 0.5)) / 2,
            np.mean(good > 0.5),
            np.mean(bad > 0.5),
            (np.mean(run.good <= halfway) + np.mean(run.bad > halfway)) / 2,
            (np.mean(run.good <= rate) + np.mean(run.bad > rate)) / 2,
            best_accuracy(good, bad),
            1 - (len(sure_good) / len(good) + len(sure_bad) / len(bad)) / 2,
            np.nanmean(right) if np.isfinite(right).any() else np.nan,
        )
        rows.setdefault((run.product, run.shots), []).append(np.array(told))
    print("| product | shots | accuracy | false alarms | found | halfway | 1 % rate | best | unsure | sure right |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (name, shots), lines in sorted(rows.items()):
        print(f"| {name} | {shots} | " + " | ".join(f"{value:.3f}" for value in np.nanmean(lines, axis=0)) + " |")
    for shots in sorted({shots for _, shots in rows}):
        table = np.array([np.nanmean(lines, axis=0) for (_, own), lines in rows.items() if own == shots])
        for word, values in (("mean", np.nanmean(table, axis=0)), ("worst", table.min(axis=0))):
            print(f"| {word} | {shots} | " + " | ".join(f"{value:.3f}" for value in values) + " |")


def main(folder: Path, target: Path) -> None:
    products = read(folder)
    left_out = leave_products_out(products, fit_boundary)
    rule = learn(products, [(run.product, good, bad) for run, good, bad in left_out])
    tell(left_out, rule)
    write_bytes(target, (json.dumps(asdict(rule), indent=1) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
