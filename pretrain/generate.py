"""Writes generated pictures to train adapters and prompts on.

    python pretrain/generate.py DIR
    sowa train --dataset mvtec --root DIR --epochs 2 --out weights.safetensors

Every category in six product lines, each with normal pieces and one piece per kind of defect. No photograph is used.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sowa.synthetic import CATEGORIES, write_dataset

PRODUCT_LINES = range(11, 17)


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
