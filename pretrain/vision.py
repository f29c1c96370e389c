"""Trains the transformer of ``mini`` on cached tokens of the frozen stem.

    python pretrain/vision.py OUT TEXT HOLD_OUT [STEPS]

Reads ``OUT/features`` and the text tower in TEXT; writes ``OUT/vision.safetensors``. Three tasks at once: a defective
patch is farther from four references than a normal one (few-shot), says so by itself (zero-shot), and the class token
names what is seen as EfficientNet-Lite2 does. A run that was stopped goes on.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from losses import class_loss, dense_loss, few_shot_loss, nearest
from names import hidden_classes, imagenet_names
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from sowa.core.files import replacing
from sowa.core.maps import upsample
from sowa.core.scoring import few_shot_scores, top_mean
from sowa.model.mini import LAYERS, WIDTH, emphases, empty_clip

STEPS, WARM_UP, LEARNING_RATE, WEIGHT_DECAY = 300, 50, 5e-4, 0.05
EPISODES, PHOTOGRAPHS, REAL = 3, 6, 2  # per step
SEEN = ("ballscrew", "deeppcb")  # auxiliary data that is trained on
UNSEEN = ("glass174", "kolektorsdd", "sdu_fibre")  # auxiliary data that settings are judged by
KEEP = 3.0  # weight of staying where the stem was
SHOTS = 4
GRID, WINDOW, MASK = 24, 18, 96


class Tower(nn.Module):
    """The transformer of ``mini`` and the heads that only training needs."""

    def __init__(self) -> None:
        super().__init__()
        visual = empty_clip().visual
        self.ln_post, self.transformer = visual.ln_post, visual.transformer
        self.gains = torch.stack(emphases()).cumprod(0)  # (L, D): what the stem's tokens are at each level
        self.dense = nn.Linear(WIDTH, LAYERS)
        self.whole = nn.Linear(WIDTH, 2, bias=False)  # directions of normal and defective images
        self.scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def forward(self, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens (B, 1 + P, D) of the stem to level tokens LAYERS x (B, P, D) and class features (B, D)."""
        x, levels = tokens, []
        with torch.autocast("cpu", torch.bfloat16):
            for block in self.transformer.resblocks:
                x = block(x)
                levels.append(x[:, 1:].float())
        return levels, self.ln_post(x[:, 0].float())

    def trained(self) -> dict[str, Tensor]:
        """What ``mini`` keeps, under its names."""
        state = self.state_dict()
        kept = {name: state[name] for name in state if name.startswith(("ln_post", "transformer"))}
        return {f"visual.{name}": value.contiguous() for name, value in kept.items()}


class Data:
    """All cached tokens; the batch of a step follows from its number alone."""

    def __init__(self, folder: Path) -> None:
        shards = [load_file(path) for path in sorted((folder / "episodes").glob("*.safetensors"))]
        self.episodes = torch.cat([shard["tokens"] for shard in shards])
        self.episode_masks = torch.cat([shard["masks"] for shard in shards])
        shards = [load_file(path) for path in sorted((folder / "photographs").glob("*.safetensors"))]
        self.photographs = torch.cat([shard["tokens"] for shard in shards])
        self.scores = torch.cat([shard["scores"] for shard in shards])
        self.real = {name: load_file(folder / "auxiliary" / f"{name}.safetensors") for name in (*SEEN, *UNSEEN)}
        self.seen = torch.cat([self.real[name]["tokens"] for name in SEEN])
        self.seen_masks = torch.cat([self.real[name]["masks"] for name in SEEN])

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of episodes, real images and photographs; masks of the first two; class scores of the third."""
        rng = np.random.default_rng([step, 5])
        episodes = rng.integers(len(self.episodes), size=EPISODES)
        photographs = rng.integers(len(self.photographs), size=PHOTOGRAPHS)
        real = rng.integers(len(self.seen), size=REAL)
        tokens = [self.episodes[episodes].flatten(0, 1), self.seen[real], self.photographs[photographs]]
        masks = torch.cat([self.episode_masks[episodes].flatten(0, 1), self.seen_masks[real]])
        # A window of the grid, the same for all: half the work, and references still show what queries show.
        top, left = (int(place) for place in rng.integers(GRID - WINDOW + 1, size=2))
        whole = torch.cat(tokens)
        window = whole[:, 1:].unflatten(1, (GRID, GRID))[:, top : top + WINDOW, left : left + WINDOW].flatten(1, 2)
        seen = torch.cat([whole[:, :1], window], dim=1).float()
        share = masks.shape[-1] // GRID
        masks = masks[:, share * top : share * (top + WINDOW), share * left : share * (left + WINDOW)]
        return seen, masks.float() / 255, self.scores[photographs].float()


class Run:
    """The state of a training run, and how to go on with it."""

    def __init__(self, out: Path, text: Path, hold_out: list[str], steps: int) -> None:
        self.out, self.steps, self.step = out, steps, 0
        self.data = Data(out / "features")
        self.names, self.hidden = imagenet_names(text), hidden_classes(hold_out)
        torch.manual_seed(0)
        self.tower = Tower().train()
        self.optimizer = torch.optim.AdamW(self.tower.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.checkpoint = out / "vision.checkpoint"
        if self.checkpoint.exists():
            saved = torch.load(self.checkpoint, weights_only=True)
            self.step = saved["step"]
            self.tower.load_state_dict(saved["tower"])
            self.optimizer.load_state_dict(saved["optimizer"])

    def save(self) -> None:
        saved = {"step": self.step, "tower": self.tower.state_dict(), "optimizer": self.optimizer.state_dict()}
        with replacing(self.checkpoint) as part:
            torch.save(saved, part)
        with replacing(self.out / "vision.safetensors") as part:
            save_file(self.tower.trained(), part)

    def learn(self) -> dict[str, float]:
        """One step; the parts of its loss."""
        warm = min(1.0, (self.step + 1) / WARM_UP)
        rate = LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(self.step)  # what chance adds follows from the step, so that a resumed run goes the same way
        tokens, masks, scores = self.data.batch(self.step)
        levels, features = self.tower(tokens)
        parts = losses(self.tower, tokens, levels, features, masks)
        parts["names"] = class_loss(features[len(masks) :], scores, self.names, self.hidden, self.tower.scale.exp())
        total = torch.stack(list(parts.values())).sum()
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return {name: part.item() for name, part in parts.items()}


def losses(tower: Tower, tokens: Tensor, levels: list[Tensor], features: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """What the episodes, and the real images after them, teach."""
    count = len(masks) - REAL
    few_shot = [
        few_shot_loss([level[start : start + count // EPISODES] for level in levels], masks[start:], SHOTS)
        for start in range(0, count, count // EPISODES)
    ]
    unit = torch.stack([F.normalize(level[: len(masks)], dim=-1) for level in levels])
    logits = torch.einsum("lbpd,ld->lbp", unit, tower.dense.weight) * WIDTH**0.5 + tower.dense.bias[:, None, None]
    defective = masks.flatten(1).gt(0.5).any(1).long()
    # As the prompts are going to be compared with it: cosines at temperature 0.07.
    whole = F.normalize(features[: len(masks)], dim=-1) @ F.normalize(tower.whole.weight, dim=-1).T / 0.07
    stem = tokens[:, None, 1:] * tower.gains[:, None]
    kept = 1 - F.cosine_similarity(torch.stack(levels, dim=1), stem, dim=-1).mean()
    return {
        "few_shot": torch.stack(few_shot).mean(),
        "dense": dense_loss(logits, masks),
        "whole": 0.2 * F.cross_entropy(whole, defective),
        "keep": KEEP * kept,
    }


@torch.inference_mode()
def judge(tower: Tower, data: Data) -> dict[str, list[float]]:
    """Four-shot AUROC of images and pixels, and zero-shot AUROC of pixels, on auxiliary data never trained on."""
    tower.eval()
    found = {}
    for name in UNSEEN:
        real = data.real[name]
        labels = real["labels"].numpy()
        order = np.random.default_rng(0).permutation(np.flatnonzero(labels == 0))[: SHOTS + 70]
        chosen = torch.from_numpy(np.concatenate([order, np.flatnonzero(labels == 1)]))
        parts = [tower(part.float())[0] for part in real["tokens"][chosen].split(16)]
        levels = [torch.cat([part[index] for part in parts]) for index in range(LAYERS)]
        distances = torch.stack([nearest(level[SHOTS:], level[:SHOTS]) for level in levels])
        unit = torch.stack([F.normalize(level[SHOTS:], dim=-1) for level in levels])
        logits = torch.einsum("lbpd,ld->bp", unit, tower.dense.weight)
        truth = (real["masks"][chosen[SHOTS:]] > 127).flatten().numpy()[::3]
        pixels = [
            roc_auc_score(truth, upsample(values, (GRID, GRID), (MASK, MASK)).flatten().numpy()[::3])
            for values in (distances.sum(0), logits)
        ]
        label = labels[chosen[SHOTS:]]
        scores = (few_shot_scores(distances), top_mean(logits))
        images = [roc_auc_score(label, values) for values in scores]
        found[name] = [round(float(value), 3) for value in (images[0], pixels[0], images[1], pixels[1])]
    found["mean"] = [round(float(value), 3) for value in np.mean(list(found.values()), 0)]
    tower.train()
    return found


def main(out: Path, text: Path, hold_out: list[str], steps: int) -> None:
    run = Run(out, text, hold_out, steps)
    print(f"step {run.step}: four shots, then none; image, pixel AUROC: {judge(run.tower, run.data)}", flush=True)
    saved, shown = time.monotonic(), list[dict[str, float]]()
    while run.step < steps:
        shown.append(run.learn())
        if run.step % 25 == 0:
            means = {name: round(float(np.mean([part[name] for part in shown])), 3) for name in shown[0]}
            print(f"step {run.step}: {means}, {(time.monotonic() - saved) / len(shown):.2f} s", flush=True)
            shown.clear()
            saved = time.monotonic()
            run.save()
        if run.step % 100 == 0 or run.step == steps:
            print(f"step {run.step}: {judge(run.tower, run.data)}", flush=True)


if __name__ == "__main__":
    unnamed = Path(sys.argv[3]).read_text().splitlines()
    main(Path(sys.argv[1]), Path(sys.argv[2]), unnamed, int(sys.argv[4]) if len(sys.argv) > 4 else STEPS)
