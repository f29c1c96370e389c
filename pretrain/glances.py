"""The policy of `sowa.extensions.glances`, learned on generated large images with small defects.

    OMP_NUM_THREADS=1 python pretrain/glances.py WORK src/sowa/weights/glances.safetensors

Images are recorded once and kept in WORK, and so is the state of the training, so a run that was stopped goes on where
it was. The file's header holds the learning curve, on product lines that the policy didn't learn on. Needs the extra
``rl``.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch
from glance_environment import Reward
from glance_ppo import Evaluation, PPOSettings, train

from sowa.core.config import Settings
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.extensions.glances.game import RecordedImage, load_recordings
from sowa.extensions.glances.policy import save_policy
from sowa.extensions.glances.references import FittedReferences
from sowa.extensions.glances.tiles import TileEncoder
from sowa.synthetic import CATEGORIES
from sowa.synthetic.large import ProductLine

REFERENCES = 4  # of a product
PATCH_FRACTION = 0.25  # of the references' patches; searching all of them takes longer than encoding

SIZES = ((1152, 1152), (768, 1152))  # of images, by turns: 16 and 12 tiles
TRAINING, CHOOSING = 9_000_001, 9_100_001  # style seeds, of product lines that nothing else generates
HELD_OUT = ("woven_fabric", "capsule", "printed_board", "cast_iron")
TRAIN = [  # two products of a category: with its own defects among small ones, and with small ones alone
    ProductLine(
        category, TRAINING + number, SIZES[number % 2], normal=3, anomalous=7, own_defects=number < len(CATEGORIES[::2])
    )
    for number, category in enumerate(CATEGORIES[::2] * 2)
]
CHOOSE = [
    ProductLine(category, CHOOSING + number, SIZES[number % 2], normal=6, anomalous=6)
    for number, category in enumerate(HELD_OUT)
]
SETTINGS, REWARD = PPOSettings(), Reward()


def recordings(product: ProductLine, folder: Path, backbone: str = "mini") -> list[RecordedImage]:
    """Of all test images of a product; those that ``folder`` holds already are read, the others made and kept."""

    def references() -> FittedReferences:
        encoder = TileEncoder(
            TorchEncoder.from_pretrained(backbone, settings=Settings(image_size=product.size, tiled=True))
        )
        images = [product.reference(index) for index in range(REFERENCES)]
        return FittedReferences.fit(encoder, images, patch_fraction=PATCH_FRACTION)

    paths = [folder / product.name / f"{index:03d}.safetensors" for index in range(len(product))]
    return load_recordings(paths, references, product.image)


def recorded(products: list[ProductLine], work: Path) -> list[RecordedImage]:
    """Of all test images of several products."""
    images = []
    for product in products:
        images += recordings(product, work)
        print(product.name, len(images), flush=True)
    return images


def main(work: Path, target: Path) -> None:
    torch.set_num_threads(1)
    held_out, training = recorded(CHOOSE, work), recorded(TRAIN, work)

    def report(evaluation: Evaluation) -> None:
        print(*asdict(evaluation).items(), flush=True)

    policy, curve = train(training, held_out, SETTINGS, REWARD, work / "training.safetensors", report)
    header = {
        "learning": asdict(SETTINGS),
        "reward": asdict(REWARD),
        "products": [product.name for product in TRAIN],
        "held_out": [product.name for product in CHOOSE],
        "curve": [asdict(evaluation) for evaluation in curve],
    }
    save_policy(target, policy, header)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
