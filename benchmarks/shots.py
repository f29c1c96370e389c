"""How many shots: what each way chose, what that cost in accuracy and in seconds, beside the exhaustive answer.

    python benchmarks/shots.py --data DIR --work FOLDER

DIR as in few_shot.py. The exhaustive answer is the image AUROC on the test images, mean over many draws of
references; no method sees that. Methods see the normal train images, and the test's anomalies where their labels are
"real". Seconds are those of the processor, so that others on the machine don't count. A product's row is written to
FOLDER as soon as it's there, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from few_shot import DATASETS, RESULTS, once, stamp
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr

from sowa import Sowa
from sowa.core.scoring import few_shot_scores
from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data import load
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource, sample_sources
from sowa.metrics import image_metrics
from sowa.shots.config import ShotsConfig
from sowa.shots.meta import shipped_products
from sowa.shots.methods import METHODS
from sowa.shots.pool import Pool
from sowa.synthetic import CATEGORIES, write_dataset

CONFIG = ShotsConfig()
GENERATED = CATEGORIES[::2]
STYLE, TRAIN, GOOD, PER_DEFECT = 6_000_001, 40, 30, 5  # a product line that nothing else generates
SEVERITY = 0.15  # small defects: plain ones are found with any number of shots
DRAWS, FROM, JUDGED = 20, 48, 150  # of the exhaustive answer: draws, references they are drawn from, test images
AT_MOST = 100  # images of each kind that a method sees, the command's own default
WAYS = (("cv", "generated"), ("cv", "real"), ("progressive", "generated"), ("progressive", "real"), ("meta", "none"))
CONSTANTS = (1, 4, 16)


def products(data: str, work: Path) -> dict[str, Callable[[], list[Sample]]]:
    real = {category: partial(load, dataset, f"{data}/{folder}", category) for dataset, folder, category in DATASETS}
    return real | {f"generated {category}": partial(generated, category, work / "images") for category in GENERATED}


def generated(category: str, root: Path) -> list[Sample]:
    counts = {"train": TRAIN, "test": (GOOD, PER_DEFECT)}
    write_dataset(root, [category], **counts, seed=STYLE, severity=SEVERITY)
    return load("mvtec", root, category)


def images(samples: Sequence[Sample], split: str, label: int) -> list[ImageSource]:
    return sample_sources(s for s in samples if s.split == split and s.label == label)


def some(found: list[ImageSource], at_most: int, seed: int = 0) -> list[ImageSource]:
    return draw(found, min(at_most, len(found)), seed)


def exhaustive(detector: Sowa, samples: Sequence[Sample]) -> list[float]:
    """Image AUROC on test images for each candidate."""
    references = some(images(samples, "train", NORMAL), FROM)
    good = some(images(samples, "test", NORMAL), JUDGED)
    pool = Pool(detector.encoder, references + good, some(images(samples, "test", ABNORMAL), JUDGED))
    judged = pool.readable(range(len(references), len(pool.normal) + len(pool.anomalous)))
    distances_LQPK = pool.distances(pool.readable(range(len(references))), judged)
    labels = [number >= len(pool.normal) for number in judged]
    found = np.empty((DRAWS, len(CONFIG.candidates)))
    for seed in range(DRAWS):
        order = draw(range(distances_LQPK.shape[3]), max(CONFIG.candidates), seed)
        for place, count in enumerate(CONFIG.candidates):
            scores = few_shot_scores(distances_LQPK[..., order[:count]].amin(dim=3)).numpy()
            found[seed, place] = image_metrics(scores, labels).image_AUROC
    return found.mean(axis=0).tolist()


def choose(detector: Sowa, samples: Sequence[Sample], method: str, labels: str) -> dict[str, Any]:
    """What one way says, from a pool of its own, so that its seconds are what a user waits where nobody else does."""
    normal = some(images(samples, "train", NORMAL), AT_MOST)
    bad = some(images(samples, "test", ABNORMAL), AT_MOST) if labels == "real" else None
    started, pool = time.process_time(), MeasuredPool(detector.encoder, normal, bad)
    choice = METHODS[method](pool, CONFIG).to_dict()
    return choice | {"seconds": time.process_time() - started, "encoding": pool.processor}


class MeasuredPool(Pool):
    """A pool that counts the processor's seconds for reading and encoding images."""

    processor = 0.0

    def _encode(self, numbers: Sequence[int]) -> None:
        started = time.process_time()
        super()._encode(numbers)
        self.processor += time.process_time() - started


def row(detector: Sowa, name: str, read: Callable[[], list[Sample]]) -> dict[str, Any]:
    samples = read()
    truth = exhaustive(detector, samples)
    ways = {f"{method}, {labels}": choose(detector, samples, method, labels) for method, labels in WAYS}
    return {"product": name, "truth": truth, "ways": ways}


def regret(of: dict[str, Any], chosen: int) -> float:
    return float(max(of["truth"]) - of["truth"][CONFIG.candidates.index(chosen)])


def means(way: dict[str, Any]) -> list[float]:
    return [point["mean"] for point in way["points"]]


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line per way: regret, its worst, seconds and fits against cross-validation on generated defects."""
    lines = [
        "| way | mean regret | largest | mean shots | seconds | of cv's | of encoding alone | fits | of cv's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    reference = [one["ways"]["cv, generated"] for one in rows]
    for name in rows[0]["ways"]:
        ways = [one["ways"][name] for one in rows]
        lost = [regret(one, way["chosen"]) for one, way in zip(rows, ways, strict=True)]
        seconds, fits = (np.mean([way[field] for way in ways]) for field in ("seconds", "fits"))
        passes = seconds / np.mean([way["encoding"] for way in ways])
        shares = [
            np.mean([way[f] for way in ways]) / np.mean([way[f] for way in reference]) for f in ("seconds", "fits")
        ]
        lines.append(
            f"| {name} | {np.mean(lost):.4f} | {max(lost):.3f} | {np.mean([way['chosen'] for way in ways]):.1f} "
            f"| {seconds:.1f} | {shares[0]:.0%} | {passes:.2f} | {fits:.0f} "
            f"| {shares[1]:.0%} |"
        )
    for constant in CONSTANTS:
        lost = [regret(one, constant) for one in rows]
        lines.append(f"| always {constant} | {np.mean(lost):.4f} | {max(lost):.3f} | {constant} | | | | | |")
    return lines


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = list(rows[0]["ways"])
    lines = [
        "| product | "
        + " | ".join(map(str, CONFIG.candidates))
        + " | "
        + " | ".join(names)
        + " | generated against real |",
        "|---|" + "---|" * (len(CONFIG.candidates) + len(names) + 1),
    ]
    for one in rows:
        chosen = [f"{one['ways'][n]['chosen']} ({regret(one, one['ways'][n]['chosen']):.3f})" for n in names]
        generated, real = (means(one["ways"][f"cv, {labels}"]) for labels in ("generated", "real"))
        rank = f"{spearmanr(generated, real).statistic:+.2f}" if np.ptp(generated) and np.ptp(real) else "–"
        truth = [f"{value:.3f}" for value in one["truth"]]
        lines.append(f"| {one['product']} | " + " | ".join([*truth, *chosen, rank]) + " |")
    return lines


def level(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    return curves[:, -1]


def gain(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    return curves[:, -1] - curves[:, 0]


def left_out() -> list[str]:
    """What meta says of each product that it learned from, without that product's group."""
    known = shipped_products()
    tasks = [task for task in known.tasks if len(task.curve) == len(CONFIG.candidates)]
    told = [known.without(t.group).forecast(np.array(t.traits), CONFIG.candidates) for t in tasks]
    curves, means = np.array([task.curve for task in tasks]), np.array([one.mean for one in told])
    inside = np.abs(curves - means) <= norm.ppf(0.975) * np.array([one.error for one in told])
    lost = curves.max(axis=1, keepdims=True) - curves
    place = (means >= means.max(axis=1, keepdims=True) - CONFIG.tolerance).argmax(axis=1)
    first, last = CONFIG.candidates[0], CONFIG.candidates[-1]
    errors = [np.sqrt(((of(means) - of(curves)) ** 2).mean()) for of in (level, gain)]
    groups = len({task.group for task in tasks})
    return [
        f"{len(tasks)} products in {groups} groups. Root mean square error of image AUROC",
        f"with {last} shots {errors[0]:.3f} ({level(curves).std():.3f} where the mean of all is taken), of what {last}",
        f"bring over {first} {errors[1]:.3f} ({gain(curves).std():.3f}); {inside.mean():.0%} of all points lie inside",
        "their interval of 95 %.",
        "",
        "| way | mean regret | largest | mean shots |",
        "|---|---|---|---|",
        f"| meta | {lost[range(len(tasks)), place].mean():.4f} | {lost[range(len(tasks)), place].max():.3f} "
        f"| {np.array(CONFIG.candidates)[place].mean():.1f} |",
        *(
            f"| always {count} | {lost[:, index].mean():.4f} | {lost[:, index].max():.3f} | {count} |"
            for index, count in enumerate(CONFIG.candidates)
        ),
    ]


def write(rows: Sequence[dict[str, Any]]) -> None:
    real, made = (
        [one for one in rows if one["product"].startswith("generated") == is_made] for is_made in (False, True)
    )
    text = ["# How many shots", "", stamp(), *__doc__.split("\n\n")[2].splitlines(), ""]
    text += ["    OMP_NUM_THREADS=1 python benchmarks/shots.py --data DATA --work WORK", ""]
    text += ["Image AUROC on test images with so many shots, and what each way chose (with what that loses):", ""]
    text += table(rows)
    for title, part in (("All products", rows), ("Real products", real), ("Generated products", made)):
        if part:
            text += ["", f"## {title} ({len(part)})", "", *summary(part)]
    text += ["", "## Meta on the products that it learned from, each without its group", "", *left_out()]
    (RESULTS / "shots.md").write_text("\n".join([*text, ""]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", required=True, type=Path)
    arguments = parser.parse_args()
    detector = Sowa.from_pretrained("mini")
    rows: list[dict[str, Any]] = []
    for name, samples in products(arguments.data, arguments.work).items():
        rows.append(once(arguments.work / f"{name}.json", partial(row, detector, name, samples)))
        print(rows[-1]["product"], rows[-1]["truth"], flush=True)
        write(rows)


if __name__ == "__main__":
    main()
