"""Caches what the frozen stem makes of every image that the transformer is trained on.

    python pretrain/features.py CORPUS DATA OUT [HOLD_OUT]

Reads ``OUT/stem.safetensors`` and ``OUT/teacher.safetensors``; writes shards below ``OUT/features``. Run again, it goes
on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from boards import tested_boards
from episodes import SIZE, Episode, Image, episode, images_of
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from stem import as_input
from torch import Tensor, nn

from sowa.core.files import replacing
from sowa.data import load, read_image, read_mask_at, resize_image
from sowa.data.images import resize_mask
from sowa.model.mini import SUMMARY, empty_clip, fold_norms

EPISODES, SHARD = 500, 20
AUXILIARY = ("ballscrew", "glass174", "kolektorsdd", "sdu_fibre")
MASK = 96


class Teacher(nn.Module):
    """Tokens (B, 577, 256) of images, the class token's beginning first, and their 1,000 ImageNet class scores."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.stem: Any = empty_clip().visual.conv1
        self.stem.load_state_dict(load_file(folder / "stem.safetensors"))
        self.classifier = nn.Linear(SUMMARY, 1000)
        self.classifier.load_state_dict(load_file(folder / "teacher.safetensors"))
        fold_norms(self)
        self.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(self, images: Image) -> tuple[Tensor, Tensor]:
        """(B, SIZE, SIZE, 3) uint8 to tokens and class scores, both in half precision."""
        tokens, scores = [], []
        for part in torch.split(as_input(images), 8):
            with torch.autocast("cpu", torch.bfloat16):  # as a detector computes by default
                patches, summary, pooled = self.stem.read(part)
            tokens.append(torch.cat([summary[:, None], patches.flatten(2).transpose(1, 2)], dim=1).half())
            scores.append(self.classifier(pooled).half())
        return torch.cat(tokens), torch.cat(scores)


def shrink(masks: NDArray[np.bool_]) -> Tensor:
    """Masks (B, SIZE, SIZE) to the share of each cell that is defective, (B, MASK, MASK) in 0..255."""
    return (F.interpolate(torch.from_numpy(masks)[None].float(), size=MASK, mode="area")[0] * 255).to(torch.uint8)


def cache(path: Path, make: Callable[[], dict[str, Tensor]]) -> None:
    """Writes a shard unless it is there already, whole or not at all."""
    if not path.exists():
        with replacing(path) as part:
            save_file({name: value.contiguous() for name, value in make().items()}, part)
        print(path, flush=True)


def few_shot(teacher: Teacher, made: Iterable[Episode]) -> dict[str, Tensor]:
    """Tokens (E, N, 577, 256) and masks (E, N, MASK, MASK) of a shard of episodes."""
    parts = [(teacher(one.images)[0], shrink(one.masks)) for one in made]
    return {"tokens": torch.stack([t for t, _ in parts]), "masks": torch.stack([m for _, m in parts])}


def photographs(teacher: Teacher, paths: list[Path], seed: int) -> dict[str, Tensor]:
    """Half of the images as a whole, half a mirrored part of them."""
    rng, images = np.random.default_rng([seed, 11]), list[Image]()
    for path in paths:
        image = read_image(path)
        share = 1.0 if rng.uniform() < 0.5 else rng.uniform(0.5, 0.9)
        height, width = (round(side * share) for side in image.shape[:2])
        top, left = int(rng.integers(image.shape[0] - height + 1)), int(rng.integers(image.shape[1] - width + 1))
        part = image[top : top + height, left : left + width][:, :: int(rng.choice([-1, 1]))]
        images.append(resize_image(np.ascontiguousarray(part), (SIZE, SIZE)))
    tokens, scores = teacher(np.stack(images))
    return {"tokens": tokens, "scores": scores}


def auxiliary(teacher: Teacher, root: Path, category: str) -> dict[str, Tensor]:
    """Tokens, masks and labels of a real data set."""
    samples = load("pairs", root, category)
    images = [read_image(sample.image_path) for sample in samples]
    masks = [
        read_mask_at(sample.mask_path, (SIZE, SIZE), (image.shape[0], image.shape[1]))
        for sample, image in zip(samples, images, strict=True)
    ]
    return real(teacher, images, masks, [int(sample.label or 0) for sample in samples])


def boards(teacher: Teacher, root: Path) -> dict[str, Tensor]:
    """The same of DeepPCB's tested boards."""
    found = list(tested_boards(root))
    masks = [resize_mask(mask, (SIZE, SIZE)) for _, _, mask in found]
    return real(teacher, [image for image, _, _ in found], masks, [1] * len(found))


def real(
    teacher: Teacher, images: Sequence[Image], masks: Sequence[NDArray[np.bool_]], labels: list[int]
) -> dict[str, Tensor]:
    """What is kept of a real data set."""
    tokens = [teacher(resize_image(image, (SIZE, SIZE))[None])[0][0] for image in images]
    return {"tokens": torch.stack(tokens), "masks": shrink(np.stack(masks)), "labels": torch.tensor(labels)}


_state: dict[str, Any] = {}


def start_worker(corpus: Path, data: Path, out: Path, hold_out: list[str]) -> None:
    """One thread each: two that share a busy machine wait for each other."""
    torch.set_num_threads(1)
    _state["teacher"], _state["images"] = Teacher(out), images_of(corpus, data, hold_out)


def write_episodes(path: Path, start: int) -> None:
    """A shard of episodes."""
    teacher, images = _state["teacher"], _state["images"]
    cache(path, lambda: few_shot(teacher, (episode(images, seed) for seed in range(start, start + SHARD))))


def write_photographs(path: Path, start: int) -> None:
    """A shard of photographs, none where the corpus has ended."""
    everything = _state["images"]["objects"] + _state["images"]["surfaces"]
    part = everything[start : start + 10 * SHARD]
    cache(path, lambda: photographs(_state["teacher"], part, start))


def write_auxiliary(path: Path, data: Path) -> None:
    """A real data set."""
    if path.stem == "deeppcb":
        cache(path, lambda: boards(_state["teacher"], data / "deeppcb"))
    else:
        cache(path, lambda: auxiliary(_state["teacher"], data / "auxiliary", path.stem))


def main(corpus: Path, data: Path, out: Path, hold_out: list[str]) -> None:
    shards, count = out / "features", sum(len(paths) for paths in images_of(corpus, data, hold_out).values())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, start_worker, (corpus, data, out, hold_out)) as pool:
        jobs = [
            pool.submit(write_auxiliary, shards / "auxiliary" / f"{name}.safetensors", data)
            for name in (*AUXILIARY, "deeppcb")
        ]
        for start in range(0, EPISODES, SHARD):
            jobs.append(pool.submit(write_episodes, shards / "episodes" / f"{start:05d}.safetensors", start))
        for start in range(0, count, 10 * SHARD):
            jobs.append(pool.submit(write_photographs, shards / "photographs" / f"{start:05d}.safetensors", start))
        for job in jobs:
            job.result()


if __name__ == "__main__":
    names = Path(sys.argv[4]).read_text().splitlines() if len(sys.argv) > 4 else []
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), names)
