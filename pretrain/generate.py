"""Writes the generated pictures that the shipped adapters and prompts of `mini` are trained on.

    python pretrain/generate.py DIR
    sowa train --dataset mvtec --root DIR --epochs 2 --out src/sowa/weights/mini-sowa.safetensors

Every category in six product lines, each with normal pieces and one piece per kind of defect. No photograph is used.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sowa.synthetic import CATEGORIES, write_dataset

PRODUCT_LINES = range(11, 17)  # the demo shows lines from 1 on, so that none of these is seen there


def main(root: Path) -> None:
    for line in PRODUCT_LINES:
        write_dataset(root / "line", CATEGORIES, train=1, test_good=5, test_per_defect=1, seed=line)
        for category in CATEGORIES:
            target = root / f"{category}_{line}"
            shutil.rmtree(target, ignore_errors=True)
            (root / "line" / category).rename(target)
    (root / "line").rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
