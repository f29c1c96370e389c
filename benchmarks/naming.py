"""What zero-shot naming is worth: images of categories that no training saw, and defect types named in the prompt.

    python benchmarks/naming.py --corpus DIR --hold-out FILE --tiles DIR

DIR of the corpus holds ``objects/<category>``; FILE names the categories held out of training, one per line; tiles are
the magnetic tiles in MVTec AD layout.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from few_shot import RESULTS, stamp
from torch.nn import functional as F

from sowa import Sowa
from sowa.core.config import Settings
from sowa.core.types import ABNORMAL, Sample
from sowa.data import list_images, load, read_image, read_mask_at, resize_image
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.extensions.names.defects import DefectNames
from sowa.model.checkpoint import load_weights, trained_tensors
from sowa.model.sowa import SowaNetwork

TYPES = {
    "blowhole": "{} with a blowhole",
    "break": "broken {}",
    "crack": "cracked {}",
    "fray": "frayed {}",
    "uneven": "uneven {}",
}


def named(detector: Sowa, corpus: Path, names: list[str]) -> tuple[float, int]:
    """Share of images whose own name is the nearest of ``names``, and how many images there are."""
    backbone = detector.encoder.network.backbone
    tokens = backbone.tokenize([f"a photo of a {name}" for name in names])
    with torch.inference_mode():
        texts = F.normalize(backbone.encode_text(backbone.embed_tokens(tokens), tokens.argmax(-1)), dim=-1)
    hits = []
    for index, name in enumerate(names):
        images = [
            resize_image(read_image(path), detector.image_size) for path in list_images(corpus / "objects" / name)
        ]
        with torch.inference_mode():
            pixels = detector.encoder.normalise(np.stack(images))
            features = F.normalize(backbone(pixels).image_feature, dim=-1)
        hits += (features @ texts.T).argmax(-1).eq(index).tolist()
    return float(np.mean(hits)), len(hits)


def retold(detector: Sowa, template: str) -> Sowa:
    """The same weights with another word for what is wrong."""
    network = detector.encoder.network
    prompt = dataclasses.replace(network.config.prompt, abnormal_templates=(template,))
    other = SowaNetwork(network.backbone, dataclasses.replace(network.config, prompt=prompt))
    load_weights(other, trained_tensors(network), "the shipped weights")
    return Sowa(TorchEncoder(other, trained=True, settings=Settings(precision="fp32")))


def by_type(root: Path) -> dict[str, list[Sample]]:
    """Up to thirty tiles with each type of defect."""
    bad = [sample for sample in load("mvtec", root, "tile") if sample.label == ABNORMAL]
    names = [sample.image_path.parent.name.removeprefix("MT_").lower() for sample in bad]
    return {kind: [s for s, name in zip(bad, names, strict=True) if name == kind][:30] for kind in TYPES}


def raised(detector: Sowa, tiles: dict[str, list[Sample]]) -> np.ndarray:
    """Rows: type of the defect; columns: type named. How far the map stands out on the defect, in its deviations."""
    table = np.zeros((len(TYPES), len(TYPES)))
    for column, template in enumerate(TYPES.values()):
        told = retold(detector, template)
        for row, samples in enumerate(tiles.values()):
            values = []
            for sample in samples:
                image = read_image(sample.image_path)
                mask = read_mask_at(sample.mask_path, told.image_size, image.shape[:2])
                found = (
                    told.judge(told.encoder.encode(resize_image(image, told.image_size)[None])).maps[0].cpu().numpy()
                )
                values.append((found[mask].mean() - found[~mask].mean()) / found.std())
            table[row, column] = np.mean(values)
    return table


def shares(detector: Sowa, tiles: dict[str, list[Sample]]) -> np.ndarray:
    """Rows: type of the defect; columns: type named. What share of all named types' maps on the defect each has."""
    detector.annotators = [DefectNames(detector, list(TYPES))]
    table = np.zeros((len(TYPES), len(TYPES)))
    for row, samples in enumerate(tiles.values()):
        for sample, prediction in zip(samples, detector.predict([s.image_path for s in samples]), strict=True):
            maps = {each.name: each.defect_map for each in prediction.annotations["defects"]}  # the likeliest first
            maps_Thw = torch.from_numpy(np.stack([maps[name] for name in TYPES]))
            mask = read_mask_at(sample.mask_path, detector.image_size, prediction.image.shape[:2])
            inside = F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), maps_Thw.shape[1:])
            on_it = (maps_Thw * inside).sum(dim=(1, 2))
            table[row] += (on_it / on_it.sum()).numpy() / len(samples)
    return table


def square(table: np.ndarray) -> list[str]:
    """Rows and columns by type."""
    lines = ["| | " + " | ".join(TYPES) + " |", "|---|" + "---|" * len(TYPES)]
    cells = [" | ".join(f"{value:.2f}" for value in row) for row in table]
    return [*lines, *(f"| {kind} | {row} |" for kind, row in zip(TYPES, cells, strict=True)), ""]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--corpus", "--hold-out", "--tiles"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    names = arguments.hold_out.read_text().splitlines()
    detector = Sowa.from_pretrained("mini", settings=Settings(precision="fp32"))
    tiles = by_type(arguments.tiles)
    share, count = named(detector, arguments.corpus, names)
    lines = [
        "# Zero-shot naming",
        "",
        stamp(),
        "",
        "    python benchmarks/naming.py --corpus CORPUS --hold-out pretrain/hold_out.txt --tiles DATA/magnetic_tile",
        "",
        f"Top-1 over the {len(names)} names held out of training: **{share:.3f}** of {count} images "
        f"({share * len(names):.1f} x chance). Names: {', '.join(names)}.",
        "",
        "Defect types named in the prompt: how far the zero-shot map stands out on the defect (mean inside less mean",
        "outside, in standard deviations of the map). Rows: the defect; columns: the word in the prompt.",
        "",
        *square(raised(detector, tiles)),
        "Named with `--defect`, without a reference: what share of the five maps on the defect each name gets (0.20 if",
        "names made no difference). Rows: the defect; columns: the name.",
        "",
        *square(shares(detector, tiles)),
    ]
    (RESULTS / "naming.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
