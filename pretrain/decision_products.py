"""What references and held-out images of many products show, from which `pretrain/decision.py` learns.

    python pretrain/decision_products.py DATA BUILD/decision [NAME ...]

DATA has ``development``, ``auxiliary`` and ``deeppcb``; generated products need nothing. Writes a file a product, some
minutes each on one core, and goes on where it was stopped. Three data sets that results are reported on aren't read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sowa.core.arrays import to_numpy
from sowa.core.files import write_bytes
from sowa.core.scoring import judge_zero_shot
from sowa.core.types import ABNORMAL, NORMAL, Judgement
from sowa.data import load, read_mask_at, resize_image
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource
from sowa.detector.detector import Sowa
from sowa.detector.image_size import at_suited_size
from sowa.detector.leave_one_out import Judge, score_damaged, score_references
from sowa.detector.references import FeatureCache, References, Selection, build
from sowa.synthetic import CATEGORIES, defect_types, generate

SHOTS, DRAWS = (1, 2, 4, 8, 16), 2
HELD_OUT = 40  # good and bad images of a product at most, each
GENERATED = 24  # the same of a generated one
STYLE = 4_200_001  # a product line that nothing else generates
SEVERITIES = (0.0, 0.1, 0.2, 0.35)  # small defects: plain ones lie far from any boundary
GRID = 41  # thresholds at which pixels are counted
LEAST_CHANCE = 1e-4  # of the abnormal state, at which zero-shot maps are cut


@dataclass(frozen=True)
class Shown:
    """An image of a product: how it's had, and its mask's file where there is one, its mask where it was generated."""

    source: ImageSource
    mask: Path | NDArray[np.bool_] | None = None


Images = tuple[list[Shown], list[Shown], list[Shown]]  # to draw references from, good, bad


@dataclass(frozen=True)
class Pixels:
    """Of all held-out images the numbers of pixels right and wrong at `GRID` thresholds."""

    thresholds: list[float]
    found: list[int]
    false: list[int]
    missed: list[int]


@dataclass(frozen=True)
class MeasuredZeroShot:
    """What held-out images show by themselves: raw scores, and pixels where all bad ones have masks."""

    good: list[float]
    bad: list[float]
    pixels: Pixels | None


@dataclass(frozen=True)
class MeasuredRun:
    """What one draw of references shows. Raw scores and map values, of ``damaged`` references their logarithms."""

    shots: int
    seed: int
    left_out: list[float]
    left_out_maxima: list[float]
    damaged: list[float]
    damaged_maps: list[float]
    good: list[float]
    bad: list[float]
    pixels: Pixels | None


def products(data: Path) -> dict[str, Callable[[], Images]]:
    found: dict[str, Callable[[], Images]] = {}
    for name in ("ballscrew", "dagm_class1", "fabric_stain", "screw_block", "solar_cell", "toy_figure"):
        found[name] = partial(labelled, "mvtec", data / "development", name)
    for name in ("glass174", "kolektorsdd", "sdu_fibre"):
        found[name] = partial(labelled, "pairs", data / "auxiliary", name)
    found["deeppcb"] = partial(boards, data / "deeppcb")
    for category in CATEGORIES:
        found[f"generated-{category}"] = partial(generated, category)
    return found


def labelled(layout: str, root: Path, name: str) -> Images:
    samples = load(layout, root, name)
    train = [Shown(ImageSource(str(s.image_path), s.image_path)) for s in samples if s.split == "train"]
    test = [s for s in samples if s.split == "test"]
    good, bad = (
        [Shown(ImageSource(str(s.image_path), s.image_path), s.mask_path) for s in test if s.label == label]
        for label in (NORMAL, ABNORMAL)
    )
    return train, _some(good), _some(bad)


def boards(root: Path) -> Images:
    templates, tests = (sorted(root.rglob(f"*_{kind}.jpg")) for kind in ("temp", "test"))
    good, bad = ([Shown(ImageSource(str(p), p)) for p in paths] for paths in (templates, tests))
    mixed = draw(good, len(good), 0)
    return mixed[: len(mixed) // 2], _some(mixed[len(mixed) // 2 :]), _some(bad)


def generated(category: str) -> Images:
    types = defect_types(category)

    def shown(piece: int, defect: str | None = None, severity: float | None = None) -> Shown:
        made = generate(category, size=384, seed=piece, style_seed=STYLE, defect_type=defect, severity=severity)
        return Shown(ImageSource(f"{category}-{piece}", made.image), made.mask)

    train = [shown(piece) for piece in range(2 * max(SHOTS))]
    good = [shown(1000 + piece) for piece in range(GENERATED)]
    bad = [shown(2000 + n, types[n % len(types)], SEVERITIES[n % len(SEVERITIES)]) for n in range(GENERATED)]
    return train, good, bad


def _some(images: Sequence[Shown]) -> list[Shown]:
    return draw(images, min(len(images), HELD_OUT), 0)


class Held:
    """Held-out images of a product, encoded once, with their masks."""

    def __init__(self, detector: Sowa, images: Sequence[Shown]) -> None:
        self.detector, size = detector, detector.image_size
        self.features, self.masks = [], list[NDArray[np.bool_] | None]()
        for one in images:
            image = one.source.read()
            self.features.append(detector.encoder.encode(resize_image(image, size)[None]))
            own = (image.shape[0], image.shape[1])
            mask = one.mask if not isinstance(one.mask, Path) else read_mask_at(one.mask, size, own)
            self.masks.append(mask)

    def judge(self, judge: Callable[..., Judgement]) -> tuple[list[float], list[NDArray[np.float32]]]:
        """Raw scores and maps."""
        judged = [judge(features) for features in self.features]
        return [float(one.raw_scores[0]) for one in judged], [to_numpy(one.maps)[0] for one in judged]


def runs(detector: Sowa, images: Images) -> Iterator[MeasuredRun]:
    train, *rest = images
    held = [Held(detector, some) for some in rest]
    for seed in range(DRAWS):
        cache = FeatureCache(detector.encoder)
        sources = [one.source for one in draw(train, len(train), seed)]
        for shots in (n for n in SHOTS if n <= len(train)):
            found = build(detector.encoder, sources, Selection(shots, augment="auto", seed=seed), cache=cache)
            yield run(detector, found, held, seed)


def run(detector: Sowa, references: References, held: Sequence[Held], seed: int) -> MeasuredRun:
    bank = references.bank
    judge = Judge(lambda shown, leave_out: detector.judge_images(shown, bank, leave_out), detector.image_size)
    left_out = score_references(judge, references.images, seed)
    damaged = score_damaged(judge, references.images, seed)
    (good, good_maps), (bad, bad_maps) = (part.judge(lambda features: detector.judge(features, bank)) for part in held)
    middle = float(np.exp(np.mean(np.log(left_out.map_maxima))))
    thresholds = (middle * np.exp(np.linspace(-1.5, 2.5, GRID))).tolist()
    return MeasuredRun(
        shots=len(references.images),
        seed=seed,
        left_out=left_out.raw_scores,
        left_out_maxima=left_out.map_maxima,
        damaged=list(damaged.image),
        damaged_maps=list(damaged.pixel),
        good=good,
        bad=bad,
        pixels=count(held, good_maps + bad_maps, thresholds),
    )


def zero_shot(detector: Sowa, images: Images) -> MeasuredZeroShot:
    held = [Held(detector, some) for some in images[1:]]
    (good, good_maps), (bad, bad_maps) = (
        part.judge(lambda features: judge_zero_shot(features, detector.encoder.config)) for part in held
    )
    thresholds = (len(held[0].features[0].level_maps or ()) * np.geomspace(LEAST_CHANCE, 1, GRID)).tolist()
    return MeasuredZeroShot(good, bad, count(held, good_maps + bad_maps, thresholds))


def count(held: Sequence[Held], maps: Sequence[NDArray[np.float32]], at: list[float]) -> Pixels | None:
    """Pixels found, called falsely and missed at each threshold; None where a bad image has no mask."""
    good, bad = held
    given = [mask for mask in bad.masks if mask is not None]
    if len(given) < len(bad.masks):
        return None
    masks = [np.zeros(one.shape, np.bool_) for one in maps[: len(good.masks)]] + given
    found, false, missed = np.zeros((3, len(at)), np.int64)
    for anomaly_map, mask in zip(maps, masks, strict=True):
        inside, outside = np.sort(anomaly_map[mask]), np.sort(anomaly_map[~mask])
        above = len(inside) - np.searchsorted(inside, at, side="right")
        found += above
        missed += len(inside) - above
        false += len(outside) - np.searchsorted(outside, at, side="right")
    return Pixels(at, found.tolist(), false.tolist(), missed.tolist())


def measure(data: Path, out: Path, names: Sequence[str]) -> None:
    known, detector = products(data), Sowa.from_pretrained("mini")
    for name in names or known:
        target = out / f"{name}.json"
        if target.exists():
            continue
        images = known[name]()
        suited = copy(detector)
        suited.encoder = at_suited_size(detector.encoder, [one.source for one in images[0]])
        measured = [asdict(one) for one in runs(suited, images)]
        found = {"name": name, "zero_shot": asdict(zero_shot(detector, images)), "runs": measured}
        write_bytes(target, (json.dumps(found) + "\n").encode())
        print(name, flush=True)


if __name__ == "__main__":
    measure(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
