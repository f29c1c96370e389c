"""What each level of ``mini`` tells good images of a product from bad ones by, at two sizes, and all of them together.

    OMP_NUM_THREADS=1 python pretrain/levels.py DATA NAME [NAME ...]

DATA is as of `decision_products`, whose products and draws these are, with four references. Prints rows of a table,
image AUROC: each level without views, "whole" the one that is read of a large image made small; all of them as they
are, as references weigh them, with the zero-shot score as they weigh it, and that with the views that they call normal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from decision_products import DRAWS, Images, Shown, products
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sowa.core.arrays import to_numpy
from sowa.core.image_size import SIDES, fitted_size
from sowa.core.memory import MemoryBank
from sowa.core.scoring import judge_zero_shot, level_scores
from sowa.core.types import Features
from sowa.data import resize_image
from sowa.data.sampling import draw
from sowa.detector.references import Selection, build
from sowa.encoders.torch_encoder import TorchEncoder

SHOTS = 4
Scores = NDArray[np.float64]


def measure(encoder: TorchEncoder, images: Images) -> Scores:
    """Mean over the draws: AUROC of each level, of all, as weighed, with the zero-shot score, with views, (L + 4,)."""
    train, good, bad = images
    features = [encoder.encode(_shown(one, encoder)) for one in (*good, *bad)]
    zero_shot_N = np.concatenate([to_numpy(judge_zero_shot(one, encoder.config).raw_scores) for one in features])
    labels, found = [0] * len(good) + [1] * len(bad), []
    for seed in range(DRAWS):
        sources = [one.source for one in draw(train, len(train), seed)]
        plain, varied = (
            build(encoder, sources, Selection(SHOTS, augment=views, seed=seed)).bank for views in ((), "auto")
        )
        weighed_LN, with_views_LN = (_level_scores(bank, features, encoder.precision) for bank in (plain, varied))
        scores_LN = weighed_LN / np.array(plain.weights)[:, None]
        rows = [
            *scores_LN,
            scores_LN.sum(axis=0),
            weighed_LN.sum(axis=0),
            weighed_LN.sum(axis=0) + plain.zero_shot_weight * zero_shot_N,
            with_views_LN.sum(axis=0) + varied.zero_shot_weight * zero_shot_N,
        ]
        found.append([roc_auc_score(labels, row) for row in rows])
    means: Scores = np.mean(found, axis=0)
    return means


def _level_scores(bank: MemoryBank, features: Sequence[Features], precision: str) -> Scores:
    """Of N images, (L, N)."""
    distances = (bank.distances(one.patches, None, precision) for one in features)
    found: Scores = np.concatenate([to_numpy(level_scores(each)) for each in distances], axis=1)
    return found


def _shown(one: Shown, encoder: TorchEncoder) -> NDArray[np.uint8]:
    return resize_image(one.source.read(), encoder.image_size)[None]


def main(data: Path, names: Sequence[str]) -> None:
    base = TorchEncoder.from_pretrained("mini")
    levels = [f"level {number}" for number in range(base.levels)]
    heads = ["product", "seen at", *levels, "whole", "all", "weighed", "zero-shot", "views"]
    print(_row(heads), _row(["---"] * len(heads)), sep="\n")
    for name in names:
        images = products(data)[name]()
        own = [one.source.read().shape[:2] for one in images[0][:8]]
        for size in dict.fromkeys(fitted_size(own, side, base.patch_size) for side in (SIDES[0], SIDES[-1])):
            encoder = base.at_size(size)
            cells = [f"{value:.3f}" for value in measure(encoder, images)]
            if encoder.levels == base.levels:
                cells.insert(base.levels, "")  # no whole is read
            print(_row([name, f"{size[0]} x {size[1]}", *cells]), flush=True)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
