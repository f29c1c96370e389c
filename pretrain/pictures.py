r"""Writes the pictures that adapters and prompts of ``mini`` are trained on, as image and mask pairs.

    python pretrain/pictures.py CORPUS AUXILIARY OUT [HOLD_OUT]
    sowa train --dataset pairs --root OUT --epochs 3 --prompt.map-weight 0.25 --prompt.self-weight 2 \
        --out mini-sowa.safetensors

One category for each kind of product in ``episodes.py``, and the real data sets beside them as links.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
from episodes import NORMALS, REFERENCES, Image, episode, pictures_of
from features import AUXILIARY

EPISODES, FIRST = 600, 2_000_000
KEPT_DEFECTIVE = 3


def write(pictures: dict[str, list[Path]], out: Path, seed: int) -> None:
    """One normal and three defective pictures of the product of that seed."""
    made = episode(pictures, seed)
    folder = out / f"generated_{made.kind}"
    _save(folder / "good" / f"{seed}.jpg", made.images[REFERENCES])
    for index in range(REFERENCES + NORMALS, REFERENCES + NORMALS + KEPT_DEFECTIVE):
        _save(folder / "images" / f"{seed}_{index}.jpg", made.images[index])
        _save(folder / "masks" / f"{seed}_{index}.png", made.masks[index].astype("uint8") * 255)


def _save(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image[..., ::-1] if image.ndim == 3 else image
    if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []):
        raise SystemExit(f"{path} can't be written")


def main(corpus: Path, auxiliary: Path, out: Path, hold_out: list[str]) -> None:
    pictures = pictures_of(corpus, hold_out)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write, pictures, out), range(FIRST, FIRST + EPISODES), chunksize=20))
    for name in AUXILIARY:
        if not (out / name).exists():
            (out / name).symlink_to((auxiliary / name).resolve(), target_is_directory=True)


if __name__ == "__main__":
    names = Path(sys.argv[4]).read_text().splitlines() if len(sys.argv) > 4 else []
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), names)
