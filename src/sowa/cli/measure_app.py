"""The flags of ``sowa test``, ``benchmark`` and ``shots``, which measure. Heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sowa.cli.console import Console
from sowa.cli.flags import Device, Precision, Typed, augmentation, extensions, named_network, numbers, size
from sowa.core.config import Settings
from sowa.evaluation.config import EvaluationConfig
from sowa.shots.config import ShotsConfig


def run_test(
    *,
    dataset: str,
    root: Path,
    category: str | None = None,
    model: Path | None = None,
    backbone: str | None = None,
    k_shot: str = "0,1,2,4",
    seeds: Annotated[str, Parameter(name=["--seeds", "--seed"])] = "0,1,2",
    scoring: Literal["inductive", "paper"] = "inductive",
    aupro: Literal["standard", "authors"] = "standard",
    bootstrap: int = 0,
    augment: str = "auto",
    saliency_weight: float = 0.0,
    expect: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    image_size: str | None = None,
    tiled: bool = False,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    report: Path | None = None,
    typed: Typed = None,
) -> None:
    """Measure accuracy on a labelled data set, for several numbers of shots and seeds in one pass.

    Args:
        dataset: folder, pairs, mvtec, mvtec2, visa, btad, dagm, dtd-synthetic, kolektor, kolektor2, magnetic-tile, mpdd
        root: the data set's folder
        category: one category; all by default
        model: weights of `sowa train`, which name their backbone, or with --backbone the authors'
        backbone: as in `sowa fit`
        k_shot: numbers of reference images, with commas; 0 is zero-shot
        seeds: seeds of the draws, with commas
        scoring: inductive (each image by itself) or paper (the whole test set mixed, for reproduction)
        aupro: standard (false positives pooled) or authors (as in their code)
        augment: as in `sowa fit`
        saliency_weight: as in `sowa fit`
        expect: as in `sowa fit`
        tiled: as in `sowa fit`
        bootstrap: number of resamples of the test images for 95 % confidence intervals, such as 1000; 0 for none
        json_file: file for the result
        report: HTML file that shows metrics, curves and the verdict on every image, with the most shots and the
            first seed
    """
    from sowa.cli.test import DataSet, measure_to_files
    from sowa.data import load
    from sowa.data.views import check
    from sowa.detector.detector import Sowa

    config = EvaluationConfig(
        numbers("k-shot", k_shot),
        numbers("seeds", seeds),
        scoring,
        aupro,
        batch_size,
        bootstrap,
        check(augmentation(augment)),
    )
    samples = load(dataset, root, category)
    settings = Settings(device, precision, size(image_size), tiled)
    detector = Sowa.from_pretrained(
        **named_network(model, backbone), settings=settings, extensions=extensions(saliency_weight, expect)
    )
    measure_to_files(detector, DataSet(dataset, root, samples), config, json_file, report, Console(), typed or "")


def benchmark(
    *,
    root: Path,
    out: Path,
    suite: Literal["paper", "all"] = "paper",
    datasets: str | None = None,
    no_train: Annotated[bool, Parameter(negative=())] = False,
    epochs: int = 1,
    model: Path | None = None,
    backbone: str | None = None,
    k_shot: str = "0,1,2,4",
    seeds: Annotated[str, Parameter(name=["--seeds", "--seed"])] = "0,1,2",
    scoring: Literal["inductive", "paper"] = "inductive",
    aupro: Literal["standard", "authors"] = "standard",
    image_size: str | None = None,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
    typed: Typed = None,
) -> None:
    """Run the published evaluation: train on one data set, judge the others, for all numbers of shots and seeds.

    Each category's row is written as soon as it's there, so a run that was stopped goes on where it was. Tables and
    images appear in OUT/README.md.

    Args:
        root: folder that holds the data sets, each in a folder of its name or its archive's
        out: folder for weights, rows, tables and images
        suite: paper (mvtec, visa, btad, dagm, dtd-synthetic), or all (mvtec2, mpdd, kolektor, kolektor2 and
            magnetic-tile too)
        datasets: names with commas, to judge some of the suite only
        no_train: judge with the weights that the network has, as with --model; otherwise weights are trained on VisA to
            judge the others, and on MVTec AD to judge VisA
        epochs: of that training
        model: weights of `sowa train`, which name their backbone, or with --backbone the authors'
        backbone: as in `sowa fit`
        k_shot: numbers of reference images, with commas; 0 is zero-shot
        seeds: seeds of the draws, with commas
        scoring: inductive (each image by itself) or paper (the whole test set mixed, for reproduction)
        aupro: standard (false positives pooled) or authors (as in their code)
    """
    from sowa.cli.benchmark import benchmark_to_files
    from sowa.evaluation.benchmark import BenchmarkConfig, Network

    evaluation = EvaluationConfig(numbers("k-shot", k_shot), numbers("seeds", seeds), scoring, aupro, batch_size)
    chosen = tuple(name.strip().replace("_", "-") for name in datasets.split(",")) if datasets else ()
    config = BenchmarkConfig(suite, not no_train and model is None, epochs, datasets=chosen, evaluation=evaluation)
    settings = Settings(device, precision, size(image_size))
    network = Network(**named_network(model, backbone), settings=settings)
    benchmark_to_files(network, root, out, config, Console(), typed or "")


def shots(
    *,
    normal: Path | None = None,
    dataset: str | None = None,
    root: Path | None = None,
    category: str | None = None,
    method: Literal["cv", "progressive", "meta", "all"] = "cv",
    labels: Literal["generated", "real"] = "generated",
    candidates: str = "1,2,4,8,16",
    folds: int = 5,
    draws: int = 5,
    tolerance: float = 0.0025,
    patience: int = 2,
    at_most: int = 100,
    seed: int = 0,
    work: Path | None = None,
    out: Path | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    model: Path | None = None,
    backbone: str | None = None,
    image_size: str | None = None,
    tiled: bool = False,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Find out how many reference images a product needs.

    Args:
        normal: folder (or file, or glob pattern) of normal images; defects are drawn onto those that are judged
        dataset: with --root, a labelled data set in their place, as in `sowa test`
        root: the data set's folder
        category: its category, where there are several
        method: cv (cross-validation: every number on every fold), progressive (from the smallest upwards until more
            doesn't help), meta (predicted from a few normal images and what was learned of other products), or all
        labels: generated (defects drawn onto normal images) or real (the data set's anomalous images)
        candidates: numbers of reference images to compare, with commas
        folds: parts that the normal images are divided into, each judged once by references from the others
        draws: of references in each fold, for cv
        tolerance: image AUROC that more images must bring for progressive and meta to ask for them
        patience: how many larger numbers in a row may fail to
        at_most: images of each kind that are used, drawn by the seed
        seed: of folds, draws and defects
        work: folder for encoded images, so that a stopped run goes on where it was; 1.2 MB an image with mini
        out: PNG file for the curves
        json_file: file for the numbers
        model: as in `sowa fit`
        backbone: as in `sowa fit`
    """
    from sowa.cli.shots import shots_to_files, sources
    from sowa.encoders.torch_encoder import TorchEncoder
    from sowa.shots.feature_folder import FeatureFolder
    from sowa.shots.methods import METHODS
    from sowa.shots.pool import Pool

    config = ShotsConfig(numbers("candidates", candidates), folds, draws, tolerance, patience, seed)
    good, bad = sources(normal, dataset, root, category, labels, at_most, seed)
    settings = Settings(device, precision, size(image_size), tiled)
    encoder = TorchEncoder.from_pretrained(**named_network(model, backbone), settings=settings)
    folder = FeatureFolder(work, encoder) if work else None
    pool = Pool(encoder, good, bad, seed=seed, batch_size=batch_size, folder=folder)
    shots_to_files(pool, list(METHODS) if method == "all" else [method], config, out, json_file, Console())
