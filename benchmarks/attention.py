"""What looking the way people look is worth: bottom-up saliency, top-down names, both, and gaze.

    python benchmarks/attention.py --data DIR --work FOLDER

DIR as in few_shot.py, with ``auxiliary`` to train on. What was measured is kept in FOLDER, so a run that was stopped
goes on where it was. Glances at parts of large images have a benchmark of their own, glances.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from attention_tables import tables
from few_shot import DATASETS, RESULTS, once, stamp, thinned
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_auc_score
from torch import Tensor

from sowa import Sowa
from sowa.core.config import SaliencyConfig
from sowa.core.memory import MemoryBank
from sowa.core.scoring import few_shot_map, few_shot_scores, top_mean
from sowa.core.types import ABNORMAL, Features, Sample
from sowa.data import choose_references, load, read_image, read_mask_at, resize_image, split
from sowa.data.batches import read_batches
from sowa.data.sampling import draw
from sowa.data.sources import sample_sources
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.extensions.gaze.comparing import baselines, compare
from sowa.extensions.gaze.fixations import Gaze
from sowa.extensions.gaze.learning import attention_map, learn, watch
from sowa.extensions.gaze.observers import simulate
from sowa.extensions.names.expected import DefectProbability
from sowa.extensions.names.scores import NameClassifier, example, region
from sowa.extensions.names.weights import load_namer
from sowa.extensions.saliency import SaliencyWeight
from sowa.metrics import PixelMetrics, image_metrics
from sowa.synthetic import generate, write_dataset
from sowa.training.config import TrainConfig
from sowa.training.train import train

SHOTS, SEEDS, BATCH, EXAMPLES = 4, (0, 1, 2), 8, 5
WEIGHTS = (-0.3, -0.15, 0.15, 0.3)
TYPES = ("crack", "blowhole", "break", "fray", "uneven")
PAIR_WEIGHT = 0.15  # of saliency, where it's combined with names
ANY = ("scratch", "crack", "hole", "stain", "dent", "contamination", "discoloration", "missing part", "chip")
CLUTTERED = ("gear", "capsule", "bearing", "screw")
STYLE, PER_DEGREE, OBSERVERS = 11_000_001, 38.0, 8
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """One labelled image as every row sees it: patches L times (1, P, E), saliency (1, P), its mask and its label."""

    patches: tuple[Tensor, ...]
    saliency: Tensor
    mask: NDArray[np.bool_]
    label: bool
    defect_type: str | None


def see(detector: Sowa, samples: Sequence[Sample]) -> list[Seen]:
    by_name = {str(sample.image_path): sample for sample in samples}
    found = []
    for batch in read_batches(sample_sources(samples), detector.image_size, BATCH, []):
        features = detector.encoder.encode(batch.images, prompts=False)
        saliency = features.patch_values[SaliencyWeight.name]
        for index, (image, size) in enumerate(zip(batch.sources, batch.sizes, strict=True)):
            sample = by_name[image.name]
            found.append(
                Seen(
                    tuple(level[index : index + 1] for level in features.patches),
                    saliency[index : index + 1],
                    read_mask_at(sample.mask_path, detector.image_size, size),
                    sample.label == ABNORMAL,
                    sample.defect_type,
                )
            )
    return found


@dataclass(frozen=True)
class Product:
    """A product's test images and the banks of its seeds."""

    test: list[Seen]
    banks: list[MemoryBank]

    @classmethod
    def of(cls, detector: Sowa, samples: Sequence[Sample]) -> Product:
        test = [sample for sample in split(samples, "test") if sample.label is not None]
        banks = []
        for seed in SEEDS:
            taken = see(detector, choose_references(samples, SHOTS, seed))
            banks.append(MemoryBank.build([each.patches for each in taken], SHOTS))
        return cls(see(detector, test), banks)

    def auroc(self, steer: Callable[[Seen, Tensor], Tensor], detector: Sowa) -> list[float]:
        """Image and pixel AUROC where distances (L, 1, P) of an image go through ``steer``; mean of the seeds."""
        found, grid = [], detector.encoder.network.backbone.grid(detector.image_size)
        for bank in self.banks:
            pixels, scores = PixelMetrics(image_rates=False), []
            for each in self.test:
                distances = steer(each, bank.distances(each.patches))
                scores.append(few_shot_scores(distances).item())
                pixels.update(few_shot_map(distances, grid, detector.image_size)[0].numpy(), each.mask)
            image = image_metrics(scores, [each.label for each in self.test]).image_AUROC
            found.append([float(image), float(pixels.compute().pixel_AUROC)])
        return np.mean(found, axis=0).tolist()


def salient() -> Sowa:
    return Sowa.from_pretrained("mini", extensions=[SaliencyWeight(1e-9)])


def products(data: str, work: Path) -> dict[str, Callable[[], list[Sample]]]:
    real = {name: partial(evaluated, dataset, f"{data}/{folder}", name) for dataset, folder, name in DATASETS}
    return real | {f"{name} on clutter": partial(cluttered, name, work / "clutter") for name in CLUTTERED}


def evaluated(dataset: str, root: str, category: str) -> list[Sample]:
    return thinned(load(dataset, root, category))


def cluttered(category: str, root: Path) -> list[Sample]:
    """A generated product whose images lie on other surfaces, with scraps of others around."""
    write_dataset(root, [category], train=8, test=(20, 4), seed=STYLE, severity=0.3)
    samples = load("mvtec", root, category)
    for number, sample in enumerate(samples):
        random = np.random.default_rng([STYLE, number])
        clutter(sample, random)
    return samples


def clutter(sample: Sample, random: np.random.Generator) -> None:
    """Shrinks an image and its mask and lays both on a background that is never the same; once."""
    from PIL import Image

    done = sample.image_path.with_suffix(".cluttered")
    if done.exists():
        return
    style, piece = (int(value) for value in random.integers(1 << 20, size=2))
    surface = str(random.choice(["wood", "leather", "cardboard", "woven_fabric", "brushed_metal"]))
    background = generate(surface, size=384, seed=piece, style_seed=style).image.copy()
    for _ in range(5):
        scrap = generate(str(random.choice(["screw", "gear", "capsule"])), size=96, seed=piece, style_seed=style).image
        top, left = random.integers(0, 384 - 96, size=2)
        background[top : top + 96, left : left + 96] = scrap
    side = 256
    top, left = random.integers(32, 384 - side - 32, size=2)
    background[top : top + side, left : left + side] = resize_image(read_image(sample.image_path), (side, side))
    Image.fromarray(background).save(sample.image_path)
    if sample.mask_path:
        mask = np.zeros((384, 384), np.uint8)
        mask[top : top + side, left : left + side] = read_mask_at(sample.mask_path, (side, side), (384, 384))
        Image.fromarray(mask * 255).save(sample.mask_path)
    done.touch()


def steered(detector: Sowa, samples: Callable[[], list[Sample]]) -> dict[str, list[float]]:
    """All combinations of saliency, which proposes, and names of defects, which decide."""
    product = Product.of(detector, samples())
    backbone = detector.encoder.network.backbone
    probability = DefectProbability(ANY, load_namer(backbone), backbone)

    def expected(each: Seen) -> Tensor:
        features = Features(each.patches, detector.encoder.grid, detector.image_size)
        return probability(each.patches[0], features)

    found = {"neither": product.auroc(lambda _, distances: distances, detector)}
    for weight in WEIGHTS:
        found[f"saliency {weight:+g}"] = product.auroc(lambda each, d: d * (weight * each.saliency).exp(), detector)  # noqa: B023
    found["names"] = product.auroc(lambda each, d: d * expected(each), detector)
    found["both"] = product.auroc(lambda each, d: d * (PAIR_WEIGHT * each.saliency).exp() * expected(each), detector)
    return found


def trained(data: str, work: Path, saliency: bool) -> dict[str, Any]:
    """Adapters and prompts trained on auxiliary data, with or without saliency, on the three data sets."""
    weights = work / f"trained-{'with' if saliency else 'without'}.safetensors"
    if not weights.exists():
        detector = Sowa.from_pretrained(
            "mini", config=replace(model(), saliency=SaliencyConfig() if saliency else None)
        )
        train(detector.encoder, load("pairs", f"{data}/auxiliary"), TrainConfig(), weights)
    detector = Sowa.from_pretrained(str(weights))
    config = EvaluationConfig(k_shots=(0, SHOTS), augment=())
    found = {}
    for dataset, folder, category in DATASETS:
        result = evaluate(detector, dataset, evaluated(dataset, f"{data}/{folder}", category), config)
        for row in result.mean():
            names = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")
            found[f"{category}, {row['k_shot']}"] = [row["metrics"][name]["mean"] for name in names]
    return found


def model() -> Any:
    return Sowa.from_pretrained("mini").encoder.config


def named(detector: Sowa, data: str) -> dict[str, Any]:
    """What the types of magnetic tile are called, by words and by five examples of each that are then left out."""
    samples = thinned(load("mvtec", f"{data}/magnetic_tile", "tile"))
    all_bad = [s for s in load("mvtec", f"{data}/magnetic_tile", "tile") if s.defect_type in TYPES]
    backbone = detector.encoder.network.backbone
    namer, grid = load_namer(backbone), backbone.grid(detector.image_size)
    found: dict[str, Any] = {}
    for seed in SEEDS:
        bank = MemoryBank.build(
            [each.patches for each in see(detector, choose_references(samples, SHOTS, seed))], SHOTS
        )
        shown = [draw([s for s in all_bad if s.defect_type == kind], EXAMPLES, seed) for kind in TYPES]
        taken = {sample.image_path for part in shown for sample in part}
        test = [s for s in samples if s.defect_type in TYPES and s.image_path not in taken]
        examples = {kind: looks(namer, see(detector, part), bank) for kind, part in zip(TYPES, shown, strict=True)}
        judged = see(detector, test)
        for way, known in (("words", None), ("five examples each", examples)):
            defects = NameClassifier(TYPES, namer, backbone, known)
            told = [defects(each.patches, bank.distances(each.patches).sum(dim=0), grid) for each in judged]
            truth = np.array([TYPES.index(str(each.defect_type)) for each in judged])
            likeliest = np.array([int(each.probabilities[0].argmax()) for each in told])
            shares = np.array([top_of(each.maps.transpose(0, 1)) for each in told])
            matrix = confusion_matrix(truth, likeliest, labels=range(len(TYPES)))
            areas = [float(roc_auc_score(truth == index, shares[:, index])) for index in range(len(TYPES))]
            part = found.setdefault(way, {"confusion": np.zeros_like(matrix).tolist(), "auroc": []})
            part["confusion"] = (np.array(part["confusion"]) + matrix).tolist()
            part["auroc"].append(areas)
    return found


def top_of(maps: Tensor) -> list[float]:
    """An image's score by each type's map, as a share of all, so that how bad a defect is doesn't count."""
    scores = torch.stack([top_mean(each) for each in maps])[:, 0]
    return (scores / scores.sum()).tolist()


def looks(namer: Any, shown: Sequence[Seen], bank: MemoryBank) -> Tensor:
    with torch.inference_mode():
        parts = [example(namer, each.patches, region(bank.distances(each.patches).sum(dim=0))) for each in shown]
    return torch.nn.functional.normalize(torch.stack(parts).sum(dim=0), dim=-1)


def gaze(work: Path) -> dict[str, Any]:
    """Simulated observers on generated products who look for defects; learned on some products, tested on others."""
    found: dict[str, dict[str, float]] = {}
    sides = {"learned from": ("wood", "gear", "leather", "capsule"), "tested on": ("cast_iron", "bearing", "cardboard")}
    encoder, parts = TorchEncoder.from_pretrained("mini", saliency=SaliencyConfig()), {}
    for part, categories in sides.items():
        root = work / "gaze" / part.split()[0]
        write_dataset(root, categories, train=1, test=(1, 6), seed=STYLE, severity=0.6)
        samples = [s for name in categories for s in load("mvtec", root, name) if s.mask_path]
        viewings, files = [], {}
        for sample in samples:
            name = sample.image_path.relative_to(root).as_posix()
            files[name] = sample.image_path
            mask = read_mask_at(sample.mask_path, (384, 384), (384, 384))
            viewings += simulate(name, mask, OBSERVERS, seed=0)
        parts[part] = watch(encoder, Gaze(tuple(viewings)), files, PER_DEGREE).watched
    training, testing = parts.values()
    saliency = encoder.network.saliency
    assert saliency is not None
    network = {"saliency": lambda each: attention_map(saliency, each)}
    before = compare(testing, network, PER_DEGREE)["saliency"]
    learn(encoder, training)
    results = compare(testing, baselines(training) | network, PER_DEGREE)
    order = {"everywhere alike": results["everywhere alike"], "the centre, fitted": results["the centre"]}
    order |= {"saliency, not learned": before, "saliency, learned": results["saliency"]}
    order["other observers"] = results["other people"]
    for name, metrics in order.items():
        found[name] = {key: score.value for key, score in metrics.metrics().items()}
    return {"metrics": found, "images": [len(training), len(testing)]}


def cost() -> dict[str, float]:
    """Share of the encoder's time that saliency takes, medians of interleaved runs."""
    detector, shares = salient(), {}
    saliency = detector.encoder.windows.patch_readers[SaliencyWeight.name]
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *detector.image_size, 3), dtype=np.uint8)
    plain = Sowa.from_pretrained("mini")
    with torch.inference_mode():
        for count in (1, BATCH):
            pixels = detector.encoder.normalise(images[:count])
            patches, grid = detector.encoder.network.backbone.patches(pixels)
            ratios = []
            for _ in range(9):
                started = time.perf_counter()
                plain.encoder.encode(images[:count], prompts=False)
                between = time.perf_counter()
                saliency(pixels, Features(patches, grid, detector.image_size))
                ratios.append((time.perf_counter() - between) / (between - started))
            shares[str(count)] = median(ratios)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", required=True, type=Path)
    arguments = parser.parse_args()
    data, work = arguments.data, arguments.work
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "cost": cost,
        "gaze": partial(gaze, work),
        "named": lambda: named(salient(), data),
        **{f"steered {name}": partial(steered, salient(), samples) for name, samples in products(data, work).items()},
        "trained without": partial(trained, data, work, False),
        "trained with": partial(trained, data, work, True),
    }
    found = {}
    for name, measure in parts.items():
        started = time.perf_counter()
        found[name] = once(work / f"{name}.json", measure)
        print(f"{name}: {time.perf_counter() - started:.0f} s", found[name], flush=True)
    head = ["# GazeLoss the way people look", "", stamp(), ""]
    head += ["    python benchmarks/attention.py --data DATA --work WORK"]
    (RESULTS / "attention.md").write_text("\n".join([*head, *tables(found, TYPES, OBSERVERS, PAIR_WEIGHT), ""]))


if __name__ == "__main__":
    main()
