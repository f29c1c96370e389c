"""Trains what tells defects by their names through ``mini``: patches of generated defects, and words for them.

    python pretrain/namer.py CORPUS DATA BUILD/namer src/sowa/weights/mini-namer.safetensors HOLD_OUT

Defects are drawn onto some of the photographs of CORPUS and DATA that a business may train on
(`episodes.images_of`), and come on generated products besides. What the backbone makes of them is cached in
BUILD/namer, so a run that was stopped goes on where it was. Every fifth image is held out, and told what it's called at
the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from episodes import images_of
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.files import replacing
from sowa.data import read_image, resize_image
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.extensions.names.config import NamerConfig
from sowa.extensions.names.namer import FLAWLESS, Namer
from sowa.extensions.names.weights import save_namer
from sowa.synthetic import CATEGORIES, DAMAGE_TYPES, damage, defect_types, generate

SIZE, SHARD, SHARDS = 384, 160, 14
STYLES = range(10_000_001, 10_000_007)  # product lines that nothing else generates
DEFECTIVE, GOOD = 10, 6  # patches of an image
COVERED = 0.25  # of a patch, for it to count as defective; of small defects those that they cover most
HELD_OUT = 5
# What people call them: each step draws a word for each type, so that neighbours among words are learned too.
WORDS = {
    FLAWLESS: (FLAWLESS, "good part", "normal surface"),
    "scratch": ("scratch", "score line", "thin scratched line"),
    "crack": ("crack", "fracture", "fissure", "split"),
    "hole": ("hole", "pit", "puncture", "cavity"),
    "stain": ("stain", "spot", "smear", "blot"),
    "dent": ("dent", "bump", "depression"),
    "contamination": ("contamination", "dirt", "foreign particle", "dust and debris"),
    "discoloration": ("discoloration", "faded colour", "uneven colour"),
    "corrosion": ("corrosion", "rust", "oxidation"),
    "distortion": ("distortion", "warp", "bent part"),
    "chip": ("chip", "broken edge", "chipped corner"),
    "burr": ("burr", "rough edge", "flash"),
    "missing_part": ("missing part", "absent component"),
}
STEPS, BATCH, NOISE = 1500, 256, 0.01
RATE, TEXT_RATE, DECAY = 1e-3, 3e-4, 0.05


@dataclass(frozen=True)
class Job:
    """An image to make: of a generated category, or of a file with damage drawn onto it."""

    source: str
    defect_type: str | None
    style: int | None
    seed: int

    def make(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        if self.style is None:
            image = resize_image(read_image(Path(self.source)), (SIZE, SIZE))
            made = damage(image, str(self.defect_type), seed=self.seed)
        else:
            made = generate(
                self.source, defect_type=self.defect_type, size=SIZE, seed=self.seed % 100_000, style_seed=self.style
            )
        return made.image, np.zeros((SIZE, SIZE), bool) if made.mask is None else made.mask > 0


def jobs(photographs: dict[str, list[Path]]) -> list[Job]:
    random, found = np.random.default_rng(0), list[Job]()
    for style in STYLES:
        for category in CATEGORIES:
            for kind in defect_types(category):
                found += [Job(category, kind, style, int(random.integers(1 << 30))) for _ in range(2)]
            found.append(Job(category, None, style, int(random.integers(1 << 30))))
    for path in [*photographs["surfaces"][::2], *photographs["objects"][::5]]:
        found.append(Job(str(path), str(random.choice(DAMAGE_TYPES)), None, int(random.integers(1 << 30))))
    return [found[index] for index in random.permutation(len(found))][: SHARD * SHARDS]


def encode(encoder: TorchEncoder, part: Sequence[Job], path: Path) -> None:
    """Patches of each image as unit vectors (N, L, E), what they show (N,), their images' means (B, L, E)."""
    patches, means, shown, owner = [], [], list[str](), list[int]()
    for number, job in enumerate(part):
        image, mask = job.make()
        unit_LPE = F.normalize(torch.stack(encoder.encode(image[None], prompts=False).patches), dim=-1)[:, 0]
        covered_P = F.adaptive_avg_pool2d(torch.from_numpy(mask)[None, None].float(), (24, 24)).flatten().numpy()
        bad = np.argsort(-covered_P, kind="stable")[:DEFECTIVE]
        bad = bad[covered_P[bad] > min(COVERED, 0.6 * covered_P.max() + 1e-6)]
        good = np.random.default_rng(job.seed).permutation(np.flatnonzero(covered_P == 0))[:GOOD]
        chosen = np.concatenate([bad, good])
        patches.append(unit_LPE[:, chosen].permute(1, 0, 2).half().numpy())
        means.append(unit_LPE.mean(dim=1).half().numpy())
        shown += [job.defect_type or FLAWLESS] * len(bad) + [FLAWLESS] * len(good)
        owner += [number] * len(chosen)
    arrays: dict[str, Any] = {"patches": np.concatenate(patches), "means": np.stack(means)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays, shown=np.array(shown), owner=np.array(owner))


@dataclass(frozen=True)
class Examples:
    """Patches and their images' means (N, L, E), what they show, and the number of the image that they are of."""

    unit: Tensor
    typical: Tensor
    shown: NDArray[np.str_]
    image: NDArray[np.int64]

    @classmethod
    def read(cls, folder: Path) -> Examples:
        units, typical, shown, image, before = [], [], [], [], 0
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as found:
                units.append(torch.from_numpy(found["patches"]).float())
                typical.append(torch.from_numpy(found["means"]).float()[found["owner"]])
                shown.append(found["shown"])
                image.append(found["owner"] + before)
                before += len(found["means"])
        return cls(torch.cat(units), torch.cat(typical), np.concatenate(shown), np.concatenate(image))

    @property
    def held_out(self) -> NDArray[np.bool_]:
        held_out: NDArray[np.bool_] = self.image % HELD_OUT == 0
        return held_out

    def see(self, namer: Namer, chosen: NDArray[np.int64], noise: float = 0.0) -> Tensor:
        """Unit vectors (n, E) of some patches."""
        unit, typical = (each[chosen].transpose(0, 1)[:, :, None] for each in (self.unit, self.typical))
        return namer.encode_unit_patches(unit + noise * torch.randn_like(unit), typical)[:, 0]


def train(namer: Namer, tower: Any, examples: Examples, steps: int) -> Iterator[float]:
    """Each type equally often, each step with other words for it."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    found = {name: np.flatnonzero((examples.shown == name) & ~examples.held_out) for name in WORDS}
    names, groups = zip(*[(name, rows) for name, rows in found.items() if len(rows)], strict=True)
    text = [namer.context, *namer.linear.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": [*namer.look.parameters(), namer.scale], "lr": RATE}, {"params": text, "lr": TEXT_RATE}],
        weight_decay=DECAY,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        labels = random.integers(len(groups), size=BATCH)
        chosen = np.array([random.choice(groups[label]) for label in labels])
        words = [str(random.choice(WORDS[name])) for name in names]
        logits = namer.sharpness * examples.see(namer, chosen, NOISE) @ namer.encode_names(words, tower).T
        loss = F.cross_entropy(logits, torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss.item()


@torch.inference_mode()
def told(namer: Namer, tower: Any, examples: Examples) -> tuple[float, int]:
    """Share of held-out images whose defect is called what it is, of twelve names, and how many there are."""
    names = [name for name in WORDS if name != FLAWLESS]
    text, right = namer.encode_names(names, tower), list[bool]()
    defective = examples.held_out & (examples.shown != FLAWLESS)
    for image in np.unique(examples.image[defective]):
        own = np.flatnonzero(defective & (examples.image == image))
        evidence = (examples.see(namer, own) @ text.T).mean(dim=0)
        right.append(names[int(evidence.argmax())] == examples.shown[own[0]])
    return float(np.mean(right)), len(right)


def main(photographs: dict[str, list[Path]], build: Path, out: Path, steps: int = STEPS) -> None:
    build.mkdir(parents=True, exist_ok=True)
    encoder, wanted = TorchEncoder.from_pretrained("mini"), jobs(photographs)
    for start in range(0, len(wanted), SHARD):
        path = build / f"{start:05d}.npz"
        if not path.exists():
            encode(encoder, wanted[start : start + SHARD], path)
            print(path.name, flush=True)
    backbone, examples = encoder.network.backbone, Examples.read(build)
    torch.manual_seed(0)
    namer = Namer(NamerConfig(), len(backbone.levels), backbone).train()
    for step, loss in enumerate(train(namer, backbone, examples, steps), start=1):
        if step % 100 == 0:
            print(f"step {step}: {loss:.3f}", flush=True)
    share, count = told(namer.eval(), backbone, examples)
    how = {"steps": steps, "images": len(np.unique(examples.image)), "held_out_top1": share, "held_out": count}
    save_namer(namer, backbone, how, out)
    print(json.dumps(how))


if __name__ == "__main__":
    corpus, data, build, out, hold_out = (Path(argument) for argument in sys.argv[1:])
    main(images_of(corpus, data, hold_out.read_text().splitlines()), build, out)
