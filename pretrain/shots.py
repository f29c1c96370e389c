"""Few-shot tasks that ``sowa shots --method meta`` learns from: traits of a product and its accuracy against shots.

    python pretrain/shots.py CORPUS DATA src/sowa/weights/shots.json

CORPUS holds ``objects/<category>`` and ``textures/<attribute>``, DATA ``auxiliary`` and ``deeppcb``. A task is a
product: generated ones with their own defects, real ones with real defects, categories of the corpus with generated
defects. The file is written after each task, and tasks that it holds already aren't measured again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sowa import Sowa
from sowa.config import ShotsConfig
from sowa.data import list_images, load
from sowa.data.sampling import draw
from sowa.data.stream import Picture
from sowa.files import write_bytes
from sowa.shots import Pool, cross_validate
from sowa.shots.meta import PICTURES, Learned, Task
from sowa.shots.traits import names, traits
from sowa.synthetic import CATEGORIES, defect_types, generate
from sowa.types import ABNORMAL, NORMAL

SIZE = 384
NORMALS, ANOMALOUS = 40, 40  # of a task at most
SEVERITIES = (0.0, 0.1, 0.2, 0.3)  # small defects: plain ones are found with any number of shots
STYLES = (4_000_001, 4_000_002)  # product lines that nothing else generates
FEWEST = 30  # pictures of a category of the corpus
EVERY = 4  # so many categories of objects for one that is taken
CONFIG = ShotsConfig(candidates=(1, 2, 4, 8, 16), folds=3, draws=6)


Pictures = tuple[list[Picture], list[Picture] | None]


@dataclass(frozen=True)
class Product:
    """``pictures`` makes the normal and the anomalous ones, None where defects are to be generated. Products of one
    ``group`` are left out together where one of them is judged."""

    name: str
    group: str
    pictures: Callable[[], Pictures]


def products(corpus: Path, data: Path) -> Iterator[Product]:
    for name in ("kolektorsdd", "sdu_fibre"):
        yield Product(name, name, partial(labelled, data / "auxiliary", name))
    yield Product("deeppcb", "deeppcb", partial(boards, data / "deeppcb"))
    for category in CATEGORIES:
        for style in STYLES:
            yield Product(f"{category}-{style}", category, partial(generated, category, style))
    objects = sorted((corpus / "objects").iterdir())
    for folder in [*sorted((corpus / "textures").iterdir()), *objects[::EVERY]]:
        if len(list_images(folder)) >= FEWEST:
            kind = folder.parent.name
            yield Product(f"{kind}/{folder.name}", kind, partial(photographed, folder))


def labelled(root: Path, name: str) -> Pictures:
    samples = load("pairs", root, name)
    normal, bad = ([s.image_path for s in samples if s.label == label] for label in (NORMAL, ABNORMAL))
    return _some(normal), _some(bad)


def boards(root: Path) -> Pictures:
    return _some(sorted(root.rglob("*_temp.jpg"))), _some(sorted(root.rglob("*_test.jpg")))


def photographed(folder: Path) -> Pictures:
    return _some(list_images(folder)), None


def generated(category: str, style: int) -> Pictures:
    known = defect_types(category)
    types = [None] * NORMALS + [known[index % len(known)] for index in range(ANOMALOUS)]
    found = [
        Picture(f"{category}-{piece}", _generated(category, style, piece, defect)) for piece, defect in enumerate(types)
    ]
    return found[:NORMALS], found[NORMALS:]


def _generated(category: str, style: int, piece: int, defect: str | None) -> NDArray[np.uint8]:
    severity = SEVERITIES[piece % len(SEVERITIES)]
    return generate(category, size=SIZE, seed=piece, style_seed=style, defect_type=defect, severity=severity).image


def _some(paths: Sequence[Path]) -> list[Picture]:
    return [Picture(str(path), path) for path in draw(paths, min(len(paths), NORMALS), 0)]


def task(detector: Sowa, product: Product) -> Task:
    """Its curve on held-out pictures, and the traits of as many normal pictures as a user's product is judged by."""
    normal, anomalous = product.pictures()
    pool = Pool(detector, normal, anomalous)
    curve = [point.mean for point in cross_validate(pool, CONFIG).points]
    grid = detector.network.backbone.grid(detector.image_size)
    seen = traits(pool.features(pool.readable(range(len(normal)), PICTURES)), grid)
    return Task(product.name, product.group, tuple(np.round(seen, 4).tolist()), tuple(np.round(curve, 4).tolist()))


def main(corpus: Path, data: Path, target: Path) -> None:
    detector = Sowa.from_pretrained("mini")
    tasks = list(Learned.read(target).tasks) if target.exists() else []
    for product in products(corpus, data):
        if product.name in {known.name for known in tasks}:
            continue
        tasks.append(task(detector, product))
        learned = Learned(CONFIG.candidates, names(len(detector.network.backbone.levels)), tuple(tasks))
        write_bytes(target, (json.dumps(learned.to_dict(), indent=1) + "\n").encode())
        print(tasks[-1].name, *tasks[-1].curve, flush=True)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
