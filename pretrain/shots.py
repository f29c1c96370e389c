"""Few-shot tasks that ``sowa shots --method meta`` learns from: traits of a product and its accuracy against shots.

    python pretrain/shots.py CORPUS DATA src/sowa/weights/shots.json

CORPUS holds ``objects/<category>`` and ``textures/<attribute>``, DATA ``auxiliary`` and ``deeppcb``. A task is a
product: generated ones with their own defects, real ones with real defects, categories of the corpus with generated
defects. The file is written after each task, and tasks that it holds already aren't measured again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sowa.core.files import write_bytes
from sowa.core.types import ABNORMAL, NORMAL
from sowa.data import list_images, load
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.shots.config import ShotsConfig
from sowa.shots.folds import cross_validate
from sowa.shots.meta import MeasuredProduct, MeasuredProducts
from sowa.shots.pool import Pool
from sowa.shots.traits import names, traits
from sowa.synthetic import CATEGORIES, defect_types, generate

SIZE = 384
# Of a product, whose traits are read. With 3, 4, 5, 6 and 8 the root mean square error of what 16 shots bring over one,
# each group left out, is 0.041, 0.038, 0.037, 0.037 and 0.037; encoding them is what the user waits for.
IMAGES = 4
NORMALS, ANOMALOUS = 40, 40  # of a task at most
SEVERITIES = (0.0, 0.1, 0.2, 0.3)  # small defects: plain ones are found with any number of shots
STYLES = (4_000_001, 4_000_002)  # product lines that nothing else generates
FEWEST = 30  # images of a category of the corpus
EVERY = 4  # so many categories of objects for one that is taken
CONFIG = ShotsConfig(candidates=(1, 2, 4, 8, 16), folds=3, draws=6)


Images = tuple[list[ImageSource], list[ImageSource] | None]


@dataclass(frozen=True)
class Product:
    """``images`` makes the normal and the anomalous ones, None where defects are to be generated. Products of one
    ``group`` are left out together where one of them is judged."""

    name: str
    group: str
    images: Callable[[], Images]


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


def labelled(root: Path, name: str) -> Images:
    samples = load("pairs", root, name)
    normal, bad = ([s.image_path for s in samples if s.label == label] for label in (NORMAL, ABNORMAL))
    return _some(normal), _some(bad)


def boards(root: Path) -> Images:
    return _some(sorted(root.rglob("*_temp.jpg"))), _some(sorted(root.rglob("*_test.jpg")))


def photographed(folder: Path) -> Images:
    return _some(list_images(folder)), None


def generated(category: str, style: int) -> Images:
    known = defect_types(category)
    types = [None] * NORMALS + [known[index % len(known)] for index in range(ANOMALOUS)]
    found = [
        ImageSource(f"{category}-{piece}", _generated(category, style, piece, defect))
        for piece, defect in enumerate(types)
    ]
    return found[:NORMALS], found[NORMALS:]


def _generated(category: str, style: int, piece: int, defect: str | None) -> NDArray[np.uint8]:
    severity = SEVERITIES[piece % len(SEVERITIES)]
    return generate(category, size=SIZE, seed=piece, style_seed=style, defect_type=defect, severity=severity).image


def _some(paths: Sequence[Path]) -> list[ImageSource]:
    return [ImageSource(str(path), path) for path in draw(paths, min(len(paths), NORMALS), 0)]


def task(encoder: TorchEncoder, product: Product) -> MeasuredProduct:
    """Its curve on held-out images, and its traits."""
    pool = Pool(encoder, *product.images())
    curve = [point.mean for point in cross_validate(pool, CONFIG).points]
    return MeasuredProduct(product.name, product.group, seen(pool), tuple(np.round(curve, 4).tolist()))


def seen(pool: Pool) -> tuple[float, ...]:
    """The traits of as many normal images as a user's product is judged by."""
    some = pool.readable(range(len(pool.normal)), IMAGES)
    found = traits(pool.features(some), pool.encoder.grid)
    return tuple(np.round(found, 4).tolist())


def write(encoder: TorchEncoder, tasks: Iterable[MeasuredProduct], target: Path) -> None:
    learned = MeasuredProducts(CONFIG.candidates, names(len(encoder.network.backbone.levels)), IMAGES, tuple(tasks))
    write_bytes(target, (json.dumps(learned.to_dict(), indent=1) + "\n").encode())


def main(corpus: Path, data: Path, target: Path) -> None:
    encoder = TorchEncoder.from_pretrained("mini")
    known = MeasuredProducts.read(target) if target.exists() else None
    tasks = {task.name: task for task in known.tasks} if known else {}
    if known and known.images != IMAGES:  # all or none: a file whose traits differ in that would tell nonsense
        for product in products(corpus, data):
            if product.name in tasks:
                pool = Pool(encoder, *product.images())
                tasks[product.name] = replace(tasks[product.name], traits=seen(pool))
        write(encoder, tasks.values(), target)
    for product in products(corpus, data):
        if product.name not in tasks:
            tasks[product.name] = task(encoder, product)
            write(encoder, tasks.values(), target)
            print(product.name, *tasks[product.name].curve, flush=True)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
