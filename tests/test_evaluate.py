"""Evaluation: one pass over the images gives what a plain loop gives, and says what is undefined."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

import sowa
from sowa.core.types import ABNORMAL, Sample
from sowa.data import choose_references, load, read_image, read_mask, resize_image, resize_mask, split
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.evaluation.results import DECISIONS, METRICS, Evaluation, Run
from sowa.metrics import MetricValue, PixelBootstrap, PixelMetrics, bootstrap_images

IMAGE, PIXEL = METRICS[:3], METRICS[3:]


@pytest.fixture(scope="module")
def detector(tiny_backbone: str) -> sowa.Sowa:
    """A detector whose prompts aren't trained."""
    return sowa.Sowa.from_pretrained(tiny_backbone)


@pytest.fixture(scope="module")
def prompted(tiny_backbone: str) -> sowa.Sowa:
    """A detector whose prompts count as trained, so that they enter every score."""
    made = sowa.Sowa.from_pretrained(tiny_backbone)
    made.encoder.trained = True
    return made


@pytest.fixture(scope="module")
def samples(dataset: Path) -> list[Sample]:
    return load("mvtec", dataset, "wood")


@pytest.fixture
def wood(dataset: Path, tmp_path: Path) -> Path:
    """A category that a test may spoil."""
    return Path(shutil.copytree(dataset / "wood", tmp_path / "wood"))


def run_once(detector: sowa.Sowa, samples: Sequence[Sample], k_shot: int, seed: int = 0, **options: Any) -> Run:
    config = EvaluationConfig(k_shots=(k_shot,), seeds=(seed,), **options)
    (run,) = evaluate(detector, "mvtec", samples, config).runs
    return run


def f1_max(labels: Any, scores: Any) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def by_hand(labels: Any, scores: Any) -> dict[str, float]:
    return {
        "AUROC": roc_auc_score(labels, scores),
        "AP": average_precision_score(labels, scores),
        "F1Max": f1_max(labels, scores),
    }


def true_mask(sample: Sample, size: tuple[int, int]) -> np.ndarray:
    return np.zeros(size, bool) if sample.mask_path is None else resize_mask(read_mask(sample.mask_path), size)


def judge_by_hand(
    detector: sowa.Sowa, samples: Sequence[Sample], k_shot: int, seed: int, augment: Any = "auto"
) -> tuple[list, list, list]:
    """Scores, maps and true masks, image by image, by the plain public path: fit, then predict."""
    references = choose_references(samples, k_shot, seed) if k_shot else []
    fitted = sowa.Sowa(detector.encoder)
    if references:
        fitted.fit([sample.image_path for sample in references], augment=augment, batch_size=1)
    scores, maps, masks = [], [], []
    for sample in split(samples, "test"):
        (prediction,) = fitted.predict(sample.image_path)
        scores.append(prediction.raw_score)
        maps.append(prediction.anomaly_map)
        masks.append(true_mask(sample, prediction.mask.shape))
    return scores, maps, masks


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(("k_shot", "seed"), [(1, 0), (1, 1), (4, 0)])
def test_metrics_are_those_of_a_plain_loop_over_the_images(
    detector: sowa.Sowa, prompted: sowa.Sowa, samples: list[Sample], trained: bool, k_shot: int, seed: int
) -> None:
    chosen = prompted if trained else detector
    scores, maps, masks = judge_by_hand(chosen, samples, k_shot, seed)
    labels = [sample.label for sample in split(samples, "test")]
    found = run_once(chosen, samples, k_shot, seed)
    check_against_scikit_learn(found, labels, scores, maps, masks)


def test_zero_shot_metrics_are_those_of_a_plain_loop(prompted: sowa.Sowa, samples: list[Sample]) -> None:
    scores, maps, masks = judge_by_hand(prompted, samples, 0, 0)
    labels = [sample.label for sample in split(samples, "test")]
    check_against_scikit_learn(run_once(prompted, samples, 0), labels, scores, maps, masks)


@pytest.mark.parametrize("aupro", ["standard", "authors"])
def test_intervals_are_those_of_the_images_scores_and_maps(
    prompted: sowa.Sowa, samples: list[Sample], aupro: str
) -> None:
    scores, maps, masks = judge_by_hand(prompted, samples, 1, 0)
    expected = bootstrap_images(scores, [sample.label for sample in split(samples, "test")], 50)
    pixels = PixelBootstrap()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        pixels.update(anomaly_map, mask)
    expected |= pixels.intervals(50)
    plain = run_once(prompted, samples, 1, aupro=aupro)
    run = run_once(prompted, samples, 1, aupro=aupro, bootstrap=50)
    assert (plain.intervals, plain.metrics) == ({}, run.metrics)
    assert set(run.intervals) == set(METRICS if aupro == "standard" else METRICS[:-1])
    for name, interval in run.intervals.items():
        assert interval.to_json() == pytest.approx(expected[name].to_json(), abs=1e-3), name


def test_images_without_masks_have_intervals_of_image_metrics_alone(detector: sowa.Sowa, samples: list[Sample]) -> None:
    without = [dataclasses.replace(sample, mask_path=None) for sample in samples]
    assert set(run_once(detector, without, 1, bootstrap=5).intervals) == set(IMAGE)


def check_against_scikit_learn(found: Run, labels: list, scores: list, maps: list, masks: list) -> None:
    values = {name: float(value) for name, value in found.metrics.items()}
    for name, value in by_hand(labels, scores).items():
        assert values[f"image_{name}"] == pytest.approx(value, abs=1e-6), name
    for name, value in by_hand(np.concatenate(masks).ravel(), np.concatenate(maps).ravel()).items():
        assert values[f"pixel_{name}"] == pytest.approx(value, abs=1e-3), name
    pixels = PixelMetrics()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        pixels.update(anomaly_map, mask)
    assert values["pixel_AUPRO"] == pytest.approx(float(pixels.compute().pixel_AUPRO), abs=1e-3)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_changes_no_metric(detector: sowa.Sowa, samples: list[Sample], batch_size: int) -> None:
    one, other = run_once(detector, samples, 2), run_once(detector, samples, 2, batch_size=batch_size)
    for name in METRICS:
        assert float(one.metrics[name]) == pytest.approx(float(other.metrics[name]), abs=1e-3)


def test_several_shots_and_seeds_in_one_pass_are_those_of_passes_of_their_own(
    detector: sowa.Sowa, samples: list[Sample]
) -> None:
    together = evaluate(detector, "mvtec", samples, EvaluationConfig(k_shots=(1, 3), seeds=(0, 2)))
    assert {(run.k_shot, run.seed) for run in together.runs} == {(1, 0), (1, 2), (3, 0), (3, 2)}
    for run in together.runs:
        alone = run_once(detector, samples, run.k_shot, run.seed)
        assert run.references == alone.references
        for name in METRICS:
            assert float(run.metrics[name]) == pytest.approx(float(alone.metrics[name]), abs=1e-6)


def test_references_are_nested_recorded_and_those_that_fit_draws(detector: sowa.Sowa, samples: list[Sample]) -> None:
    runs = evaluate(detector, "mvtec", samples, EvaluationConfig(k_shots=(1, 2, 4), seeds=(0, 1))).runs
    for seed in (0, 1):
        drawn = {run.k_shot: run.references for run in runs if run.seed == seed}
        assert [len(drawn[k_shot]) for k_shot in (1, 2, 4)] == [1, 2, 4]
        assert drawn[4][:2] == drawn[2]
        assert drawn[2][:1] == drawn[1]
        folder = Path(drawn[4][0]).parent
        assert (
            sowa.Sowa(TorchEncoder(detector.encoder.network, trained=False))
            .fit(folder, k_shot=4, seed=seed)
            .references_
            == drawn[4]
        )


def test_the_order_of_the_samples_changes_no_reference_and_no_image_metric(
    detector: sowa.Sowa, samples: list[Sample]
) -> None:
    one, other = run_once(detector, samples, 2), run_once(detector, samples[::-1], 2)
    assert one.references == other.references
    for name in IMAGE:
        assert float(one.metrics[name]) == pytest.approx(float(other.metrics[name]), abs=1e-6)


def test_zero_shots_are_run_once_under_the_first_seed(detector: sowa.Sowa, samples: list[Sample]) -> None:
    runs = evaluate(detector, "mvtec", samples, EvaluationConfig(k_shots=(0, 1), seeds=(5, 6, 7))).runs
    assert [(run.k_shot, run.seed, run.references) for run in runs if run.k_shot == 0] == [(0, 5, [])]
    assert sorted(run.seed for run in runs if run.k_shot == 1) == [5, 6, 7]


def test_zero_shots_alone_need_no_normal_training_image(prompted: sowa.Sowa, samples: list[Sample]) -> None:
    test = split(samples, "test")
    assert float(run_once(prompted, test, 0).metrics["image_AUROC"]) >= 0


def test_a_bank_that_was_fitted_before_doesn_t_enter(
    tiny_backbone: str, detector: sowa.Sowa, samples: list[Sample], dataset: Path
) -> None:
    fitted = sowa.Sowa.from_pretrained(tiny_backbone).fit(dataset / "capsule" / "train" / "good")
    for k_shot in (0, 1):
        one, other = run_once(fitted, samples, k_shot), run_once(detector, samples, k_shot)
        for name in METRICS:
            assert float(one.metrics[name]) == pytest.approx(float(other.metrics[name]), abs=1e-6)


@pytest.mark.parametrize("trained", [False, True])
def test_paper_scoring_mixes_the_test_set_as_the_authors_do(
    detector: sowa.Sowa, prompted: sowa.Sowa, samples: list[Sample], trained: bool
) -> None:
    chosen = prompted if trained else detector
    _, maps, _ = judge_by_hand(chosen, samples, 2, 0, augment=())  # the authors' references are as they are
    test = split(samples, "test")
    images = np.stack([resize_image(read_image(sample.image_path), chosen.image_size) for sample in test])
    probabilities = chosen.encoder.encode(
        images, prompts=True, categories=["wood"] * len(images)
    ).abnormal_probability.numpy()
    maxima = np.array([anomaly_map.max() for anomaly_map in maps])
    scores = 0.5 * (probabilities + (maxima - maxima.min()) / (maxima.max() - maxima.min()))
    found = run_once(chosen, samples, 2, scoring="paper")
    for name, value in by_hand([sample.label for sample in test], scores).items():
        assert float(found.metrics[f"image_{name}"]) == pytest.approx(value, abs=1e-5), name


def test_zero_shot_paper_scoring_is_the_probability_alone(prompted: sowa.Sowa, samples: list[Sample]) -> None:
    test = split(samples, "test")
    images = np.stack([resize_image(read_image(sample.image_path), prompted.image_size) for sample in test])
    probabilities = prompted.encoder.encode(images, prompts=True).abnormal_probability.numpy()
    found = run_once(prompted, samples, 0, scoring="paper")
    auroc = roc_auc_score([sample.label for sample in test], probabilities)
    assert float(found.metrics["image_AUROC"]) == pytest.approx(auroc, abs=1e-6)


def test_scoring_leaves_pixel_metrics_alone(prompted: sowa.Sowa, samples: list[Sample]) -> None:
    one, other = (run_once(prompted, samples, 1, scoring=how, augment=()) for how in ("inductive", "paper"))
    assert [float(one.metrics[name]) for name in PIXEL] == [float(other.metrics[name]) for name in PIXEL]


def test_paper_scoring_of_a_single_test_image_is_no_crash(detector: sowa.Sowa, samples: list[Sample]) -> None:
    """One image has no minimum and maximum of its own to be scaled by."""
    few = [*split(samples, "train"), next(s for s in split(samples, "test") if s.label == ABNORMAL)]
    found = run_once(detector, few, 1, scoring="paper")
    assert found.metrics["image_AUROC"].to_json() is None


def test_both_ways_to_compute_aupro_are_offered_and_recorded(detector: sowa.Sowa, samples: list[Sample]) -> None:
    config = EvaluationConfig(k_shots=(1,), seeds=(0,), aupro="authors")
    found = evaluate(detector, "mvtec", samples, config)
    assert found.to_dict()["aupro"] == "authors"
    standard = run_once(detector, samples, 1)
    assert float(found.runs[0].metrics["pixel_AUPRO"]) != float(standard.metrics["pixel_AUPRO"])
    assert float(found.runs[0].metrics["pixel_AUROC"]) == float(standard.metrics["pixel_AUROC"])


def test_without_masks_pixel_metrics_are_null_with_a_reason(detector: sowa.Sowa, wood: Path) -> None:
    shutil.rmtree(wood / "ground_truth")
    found = evaluate(detector, "mvtec", load("mvtec", wood), EvaluationConfig(k_shots=(1,), seeds=(0,))).to_dict()
    (run,) = found["runs"]
    assert [run["metrics"][name] for name in PIXEL] == [None] * 4
    assert set(run["why"]) == {*PIXEL, "pixel_F1"}
    assert "mask" in run["why"]["pixel_AUPRO"]
    assert all(0 <= run["metrics"][name] <= 1 for name in IMAGE)
    assert found["mean"][0]["metrics"]["pixel_AUROC"] == {"mean": None, "std": None}


def test_one_missing_mask_folder_makes_pixel_metrics_undefined(detector: sowa.Sowa, wood: Path) -> None:
    shutil.rmtree(wood / "ground_truth" / "hole")
    run = run_once(detector, load("mvtec", wood), 1)
    assert run.metrics["pixel_AUROC"].to_json() is None


def test_only_normal_images_make_image_metrics_undefined_with_a_reason(detector: sowa.Sowa, wood: Path) -> None:
    for folder in (wood / "test").iterdir():
        if folder.name != "good":
            shutil.rmtree(folder)
    run = run_once(detector, load("mvtec", wood), 1)
    assert all(run.metrics[name].to_json() is None and run.metrics[name].why for name in METRICS)


def test_the_folder_data_set_has_image_metrics_alone(detector: sowa.Sowa, wood: Path) -> None:
    shutil.rmtree(wood / "ground_truth")
    samples = load("folder", wood)
    run = run_once(detector, samples, 1)
    assert float(run.metrics["image_AUROC"]) == pytest.approx(
        float(run_once(detector, load("mvtec", wood), 1).metrics["image_AUROC"]), abs=1e-6
    )


def test_a_broken_test_image_is_skipped_and_counted(detector: sowa.Sowa, wood: Path) -> None:
    broken = wood / "test" / "good" / "001.png"
    broken.write_bytes(b"broken")
    found = evaluate(detector, "mvtec", load("mvtec", wood), EvaluationConfig(k_shots=(1, 2), seeds=(0, 1)))
    assert [path for path, _ in found.skipped] == [str(broken)]
    assert [entry["image_path"] for entry in found.to_dict()["skipped"]] == [str(broken)]
    broken.unlink()
    without = evaluate(detector, "mvtec", load("mvtec", wood), EvaluationConfig(k_shots=(1, 2), seeds=(0, 1)))
    for one, other in zip(found.runs, without.runs, strict=True):
        assert float(one.metrics["image_AUROC"]) == pytest.approx(float(other.metrics["image_AUROC"]), abs=1e-6)


def test_only_broken_test_images_are_refused(detector: sowa.Sowa, wood: Path) -> None:
    for path in (wood / "test").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="none of 10 test images can be read"):
        run_once(detector, load("mvtec", wood), 1)


def test_a_broken_reference_is_refused_by_name(detector: sowa.Sowa, wood: Path) -> None:
    for path in (wood / "train" / "good").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"train.good.*\.png"):
        run_once(detector, load("mvtec", wood), 1)


def test_more_shots_than_images_are_refused(detector: sowa.Sowa, samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="k-shot is 7"):
        run_once(detector, samples, 7)


def test_a_category_without_labelled_test_images_is_refused_by_name(detector: sowa.Sowa, samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="'wood' has no labelled test image"):
        run_once(detector, split(samples, "train"), 1)


def test_a_mask_of_another_size_is_refused_by_name(detector: sowa.Sowa, wood: Path) -> None:
    mask = next((wood / "ground_truth" / "hole").iterdir())
    mask.write_bytes((wood / "train" / "good" / "000.png").read_bytes())
    for path in (wood / "test" / "hole").iterdir():
        Image.new("RGB", (30, 20)).save(path)
    with pytest.raises(InputError, match=r"mask .*hole"):
        run_once(detector, load("mvtec", wood), 1)


@pytest.fixture(scope="module")
def both(detector: sowa.Sowa, dataset: Path) -> Evaluation:
    """Two categories, three numbers of shots, two seeds."""
    return evaluate(
        detector, "mvtec", load("mvtec", dataset), EvaluationConfig(k_shots=(0, 1, 2), seeds=(0, 1), batch_size=4)
    )


def test_each_category_number_of_shots_and_seed_is_one_run(both: Evaluation) -> None:
    found = sorted((run.category, run.k_shot, run.seed) for run in both.runs)
    shots = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert found == [(category, *pair) for category in ("capsule", "wood") for pair in shots]


def test_a_mean_is_over_categories_first_and_then_over_seeds(both: Evaluation) -> None:
    for row in both.mean():
        for name in METRICS:
            of_seeds: dict[int, list[float]] = {}
            for run in both.runs:
                if run.k_shot == row["k_shot"]:
                    of_seeds.setdefault(run.seed, []).append(float(run.metrics[name]))
            values = [np.mean(categories) for categories in of_seeds.values()]
            assert row["metrics"][name]["mean"] == pytest.approx(np.mean(values))
            assert row["metrics"][name]["std"] == pytest.approx(np.std(values))
            assert row["seeds"] == len(values)


def test_a_category_s_mean_is_of_its_own_runs(both: Evaluation) -> None:
    rows = {row["k_shot"]: row["metrics"]["image_AP"]["mean"] for row in both.mean("wood")}
    for k_shot, mean in rows.items():
        own = [float(r.metrics["image_AP"]) for r in both.runs if (r.category, r.k_shot) == ("wood", k_shot)]
        assert mean == pytest.approx(np.mean(own))


def test_the_json_has_the_documented_schema(both: Evaluation) -> None:
    found = json.loads(json.dumps(both.to_dict(), allow_nan=False))
    documented = {"dataset", "backbone", "scoring", "runs", "mean", "images_per_second"}
    assert set(found) == documented | {"aupro", "prompts_trained", "tiled", "skipped"}
    for run in found["runs"]:
        assert set(run) == {"category", "k_shot", "seed", "metrics", "references", "image_size", "why"}
        assert run["image_size"] == [64, 64]
        assert list(run["metrics"]) == [*METRICS, *DECISIONS]
        assert all(value is None or 0 <= value <= 1 for value in run["metrics"].values())
        assert len(run["references"]) == run["k_shot"]
    for row in found["mean"]:
        assert set(row) == {"k_shot", "metrics", "seeds"}
        assert list(row["metrics"]) == [*METRICS, *DECISIONS]
        assert all(set(value) == {"mean", "std"} for value in row["metrics"].values())
    assert [row["k_shot"] for row in found["mean"]] == [0, 1, 2]
    assert found["scoring"] == "inductive"
    assert found["images_per_second"] > 0


def test_progress_is_reported_up_to_the_last_image(detector: sowa.Sowa, samples: list[Sample]) -> None:
    reports: list[tuple[str, int, int]] = []
    evaluate(
        detector,
        "mvtec",
        samples,
        EvaluationConfig(k_shots=(1,), seeds=(0,), batch_size=4),
        lambda *report: reports.append(report),
    )
    assert reports[-1] == ("test wood", 10, 10)
    assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)


def test_the_random_state_of_the_caller_is_left_alone(detector: sowa.Sowa, samples: list[Sample]) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run_once(detector, samples, 1)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_undefined_is_never_zero() -> None:
    config = EvaluationConfig()
    nothing = {name: MetricValue.undefined("nothing there") for name in (*METRICS, *DECISIONS)}
    evaluation = Evaluation("x", "y", False, config, [Run("c", 1, 0, nothing, [], (8, 8))], math.pi, False, [])
    assert evaluation.to_dict()["mean"][0]["metrics"]["image_AUROC"] == {"mean": None, "std": None}


def test_of_few_images_all_seeds_see_the_same_views_once(
    detector: sowa.Sowa, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, encode, seen = load("mvtec", dataset, "wood"), detector.encoder.encode, 0

    def counted(images: np.ndarray, *further: Any, **named: Any) -> Any:
        nonlocal seen
        seen += len(images) * ("prompts" in named)  # calibrations don't say; each seed damages its references anew
        return encode(images, *further, **named)

    monkeypatch.setattr(detector.encoder, "encode", counted)
    originals = []
    for seeds in ((0,), (0, 1, 2)):
        seen = 0
        evaluate(detector, "mvtec", samples, EvaluationConfig(k_shots=(1, 6), seeds=seeds, augment=("hflip",)))
        originals.append(seen)
    assert originals[0] == originals[1]  # all six normal images are references of every seed
