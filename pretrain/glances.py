"""The policy of `sowa.extensions.glances`, learned on generated large images with small defects.

    OMP_NUM_THREADS=1 python pretrain/glances.py WORK src/sowa/weights/glances.safetensors

Scenes are made once and kept in WORK, and so is the state of the training, so a run that was stopped goes on where it
was. The file's header holds the learning curve, on product lines that the policy didn't learn on.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch

from sowa.extensions.glances.environment import Reward
from sowa.extensions.glances.examples import Product
from sowa.extensions.glances.policy import save_policy
from sowa.extensions.glances.scene import Scene
from sowa.extensions.glances.train import Learning, Played, train
from sowa.synthetic import CATEGORIES

SIZES = ((1152, 1152), (768, 1152))  # of images, by turns: 16 and 12 tiles
TRAINING, CHOOSING = 9_000_001, 9_100_001  # style seeds, of product lines that nothing else generates
HELD_OUT = ("woven_fabric", "capsule", "printed_board", "cast_iron")
TRAIN = [  # two products of a category: with its own defects among small ones, and with small ones alone
    Product(category, TRAINING + number, SIZES[number % 2], normal=3, anomalous=7, own=number < len(CATEGORIES[::2]))
    for number, category in enumerate(CATEGORIES[::2] * 2)
]
CHOOSE = [
    Product(category, CHOOSING + number, SIZES[number % 2], normal=6, anomalous=6)
    for number, category in enumerate(HELD_OUT)
]
LEARNING, REWARD = Learning(), Reward()


def scenes(of: list[Product], work: Path) -> list[Scene]:
    found = []
    for product in of:
        found += product.scenes(work)
        print(product.name, len(found), flush=True)
    return found


def main(work: Path, target: Path) -> None:
    torch.set_num_threads(1)
    held_out, training = scenes(CHOOSE, work), scenes(TRAIN, work)

    def report(played: Played) -> None:
        print(*asdict(played).items(), flush=True)

    policy, curve = train(training, held_out, LEARNING, REWARD, work / "training.safetensors", report)
    header = {
        "learning": asdict(LEARNING),
        "reward": asdict(REWARD),
        "products": [product.name for product in TRAIN],
        "held_out": [product.name for product in CHOOSE],
        "curve": [asdict(played) for played in curve],
    }
    save_policy(target, policy, header)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
