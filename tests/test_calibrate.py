"""Thresholds set anew on a fitted detector: in Python and by `sowa calibrate`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sowa
from sowa.cli.app import run
from sowa.core.config import Settings
from sowa.core.types import ABNORMAL
from sowa.data import load
from sowa.errors import InputError
from sowa.metrics import PixelMetrics


@pytest.fixture
def detector(detector_file: Path) -> sowa.Sowa:
    return sowa.Sowa.load(detector_file)


@pytest.fixture
def file(detector_file: Path, tmp_path: Path) -> Path:
    """A detector's file to write over."""
    return Path(shutil.copy(detector_file, tmp_path / "wood.sowa"))


def test_another_rate_needs_no_image_and_keeps_the_bank(detector: sowa.Sowa, judged: Path) -> None:
    bank, before = detector.bank_, [p.raw_score for p in detector.predict(judged)]
    thresholds = [
        detector.calibrate(false_positive_rate=rate).calibration_.threshold for rate in (0.3, 0.05, 0.01, 0.001)
    ]
    assert thresholds == sorted(thresholds)
    assert len(set(thresholds)) == 4
    assert detector.bank_ is bank
    assert [p.raw_score for p in detector.predict(judged)] == before


def test_prior_and_unsure_move_threshold_and_band_and_nothing_else(
    detector: sowa.Sowa, file: Path, judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = detector.calibration_
    assert run(["calibrate", "--model", str(file), "--prior", "0.1", "--unsure", "0.2"]) == 0
    after = sowa.Sowa.load(file).calibration_
    assert after.threshold > before.threshold
    assert (after.image, after.damaged, after.width) == (before.image, before.damaged, before.width)
    assert np.log(after.unsure[1] / after.unsure[0]) < np.log(before.unsure[1] / before.unsure[0])
    told = json.loads(capsys.readouterr().out)
    assert (told["false_alarms"], told["missed"]) == pytest.approx((after.false_alarms, after.missed))
    verdicts = {prediction.verdict for prediction in sowa.Sowa.load(file).predict(judged)}
    assert verdicts <= {"normal", "unsure", "anomalous"}


def test_the_rate_of_fit_is_that_of_calibrate(tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    fit = ["fit", "--normal", str(normal), "--backbone", tiny_backbone, "--out", str(tmp_path / "a.sowa")]
    assert run([*fit, "--false-positive-rate", "0.1"]) == 0
    later = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal).calibrate(false_positive_rate=0.1)
    assert sowa.Sowa.load(tmp_path / "a.sowa").calibration_ == later.calibration_


def test_normal_images_tell_where_normal_ends(detector: sowa.Sowa, judged: Path) -> None:
    raw = [p.raw_score for p in detector.predict(judged / "good")]
    calibration = detector.calibrate(judged / "good").calibration_
    assert calibration.seen == "3 normal images"
    assert calibration.image is not None
    assert calibration.image.centre == pytest.approx(np.log(raw).mean(), abs=1e-4)
    assert calibration.threshold > np.exp(np.log(raw).mean())
    assert calibration.damaged is not None


def test_a_percentile_and_a_score_agree_with_the_threshold(detector: sowa.Sowa, judged: Path) -> None:
    detector.calibrate(judged / "good", false_positive_rate=0.2)
    bound = detector.calibration_.normal_percentile(detector.calibration_.threshold)
    assert detector.calibration_.false_alarms == pytest.approx(0.2)
    for prediction in detector.predict(judged):
        assert prediction.is_anomalous == (prediction.score > 0.5) == (prediction.normal_percentile > bound)


def test_without_a_bank_prompts_can_be_calibrated_too(judged: Path) -> None:
    detector = sowa.Sowa.from_pretrained("mini", settings=Settings(image_size=(96, 96)))
    assert [p.normal_percentile for p in detector.predict(judged / "good")] == [None] * 3
    detector.calibrate(judged / "good")
    assert all(0 < p.normal_percentile < 99 and not p.is_anomalous for p in detector.predict(judged / "good"))


@pytest.mark.parametrize("rule", ["f1", "youden", "recall", "cost"])
def test_labelled_images_are_told_apart_as_the_rule_wants(detector: sowa.Sowa, dataset: Path, rule: str) -> None:
    samples = load("mvtec", dataset, "wood")
    detector.calibrate_labelled(samples, rule, missed_cost=1000)
    test = [sample for sample in samples if sample.split == "test"]
    assert detector.calibration_.rule == f"{rule} on {len(test)} labelled images"  # the six others are its references
    called = [p.is_anomalous for p in detector.predict([sample.image_path for sample in test])]
    anomalous = [sample.label == ABNORMAL for sample in test]
    if rule in ("recall", "cost"):
        assert all(call for call, truth in zip(called, anomalous, strict=True) if truth)
    assert sum(called) > 0


def test_masks_give_the_best_pixel_threshold(detector: sowa.Sowa, dataset: Path) -> None:
    samples = load("mvtec", dataset, "wood")
    detector.calibrate_labelled(samples, "f1")
    scores, found, false = metrics(detector, samples).counts()
    f1 = 2 * found / (found + false + found[-1])
    called = scores > detector.calibration_.pixel_threshold
    assert f1[called.sum() - 1] == f1.max()


def metrics(detector: sowa.Sowa, samples: list[sowa.core.types.Sample]) -> PixelMetrics:
    from sowa.data import read_mask_at

    pixels, test = PixelMetrics(), [sample for sample in samples if sample.split == "test"]
    for sample, prediction in zip(test, detector.predict([s.image_path for s in test]), strict=True):
        pixels.update(prediction.anomaly_map, read_mask_at(sample.mask_path, prediction.mask.shape))
    return pixels


def test_without_masks_a_mask_is_lit_where_the_image_is_called(detector: sowa.Sowa, dataset: Path) -> None:
    samples = [dataclasses.replace(sample, mask_path=None) for sample in load("mvtec", dataset, "wood")]
    detector.calibrate_labelled(samples, "recall")
    test = [sample for sample in samples if sample.split == "test"]
    for sample, prediction in zip(test, detector.predict([s.image_path for s in test]), strict=True):
        assert prediction.mask.any() or sample.label != ABNORMAL


def test_images_of_one_kind_are_not_enough(detector: sowa.Sowa, dataset: Path) -> None:
    normal = [sample for sample in load("mvtec", dataset, "wood") if sample.label != ABNORMAL]
    with pytest.raises(InputError, match="3 normal and 0 anomalous images"):
        detector.calibrate_labelled(normal)


def test_broken_images_are_skipped_and_listed(detector: sowa.Sowa, judged: Path, tmp_path: Path) -> None:
    shutil.copytree(judged / "good", tmp_path / "good")
    (tmp_path / "good" / "x.png").write_bytes(b"broken")
    detector.calibrate(tmp_path / "good")
    assert [Path(name).name for name, _ in detector.skipped_] == ["x.png"]
    assert detector.calibration_.seen == "3 normal images"


def test_a_copy_of_a_reference_says_nothing_of_other_pieces(tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    shutil.copytree(normal, tmp_path / "good")
    shutil.copy(normal / "000.png", tmp_path / "good" / "copy.png")
    plain = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal)
    copied = sowa.Sowa.from_pretrained(tiny_backbone).fit(tmp_path / "good")
    assert copied.calibration_.threshold == pytest.approx(plain.calibration_.threshold, rel=0.5)


def test_references_among_the_normal_images_are_left_out(detector: sowa.Sowa, normal: Path, judged: Path) -> None:
    alone = detector.calibrate(judged / "good").calibration_
    assert detector.calibrate([normal, judged / "good"]).calibration_ == alone
    with pytest.raises(InputError, match="all 6 images are references"):
        detector.calibrate(normal)


def test_defects_that_vanish_from_small_masks_leave_the_rule_to_the_maps(
    detector: sowa.Sowa, dataset: Path, tmp_path: Path
) -> None:
    tiny = np.zeros((96, 96), np.uint8)
    tiny[5, 5] = 255
    Image.fromarray(tiny).save(tmp_path / "mask.png")
    samples = [
        dataclasses.replace(sample, mask_path=tmp_path / "mask.png") if sample.label == ABNORMAL else sample
        for sample in load("mvtec", dataset, "wood")
    ]
    bare = [dataclasses.replace(sample, mask_path=None) for sample in samples]
    expected = detector.calibrate_labelled(bare).calibration_
    assert detector.calibrate_labelled(samples).calibration_ == expected


def test_a_fit_that_fails_leaves_the_detector_as_it_was(detector: sowa.Sowa, normal: Path, tmp_path: Path) -> None:
    before = (detector.bank_, detector.references_, detector.calibration_, detector.seed_)
    (tmp_path / "x.png").write_bytes(b"broken")
    for source, options in [
        (normal, {"seed": -1}),
        (tmp_path, {}),
        (normal, {"coreset": True}),
        (normal, {"coreset": True, "k_shot": 65}),
        (normal, {"patch_fraction": 0.0}),
    ]:
        with pytest.raises(InputError):
            detector.fit(source, **options)
    assert (detector.bank_, detector.references_, detector.calibration_, detector.seed_) == before


def test_the_most_extreme_rates_stay_finite(tiny_backbone: str, normal: Path) -> None:
    for k_shot in (1, 6):
        detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=k_shot)
        high = detector.calibrate(false_positive_rate=1e-6).calibration_.threshold
        low = detector.calibrate(false_positive_rate=1 - 1e-6).calibration_.threshold
        assert 0 < low < high < np.inf


# the command


def calibrated(file: Path, *flags: object) -> sowa.core.types.Calibration:
    assert run(["calibrate", "--model", str(file), *(str(flag) for flag in flags)]) == 0
    return sowa.Sowa.load(file).calibration_


def test_the_command_writes_over_the_detector(file: Path, judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sowa.Sowa.load(file)
    after = calibrated(file, "--normal", judged / "good", "--false-positive-rate", "0.05")
    line = json.loads(capsys.readouterr().out)
    assert line["threshold"] == after.threshold != before.calibration_.threshold
    assert (line["rule"], line["seen"]) == ("false-positive rate 0.05", "3 normal images")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert sowa.Sowa.load(file).references_ == before.references_


def test_the_command_leaves_the_detector_alone_where_it_writes_elsewhere(file: Path, tmp_path: Path) -> None:
    old, other = file.read_bytes(), tmp_path / "other.sowa"
    calibrated(file, "--false-positive-rate", "0.2", "--out", other)
    assert file.read_bytes() == old
    assert sowa.Sowa.load(other).calibration_.threshold < sowa.Sowa.load(file).calibration_.threshold


def test_the_command_takes_labelled_images(file: Path, dataset: Path) -> None:
    after = calibrated(file, "--dataset", "mvtec", "--root", dataset, "--category", "wood", "--rule", "recall")
    assert after.rule.startswith("recall on ")


def test_the_command_wants_one_category(file: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "--model", str(file), "--dataset", "mvtec", "--root", str(dataset)]) == 2
    assert "choose --category capsule or wood" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--false-positive-rate", "0"], "false-positive rate is 0.0, allowed is above 0 and below 1"),
        (["--false-positive-rate", "1.5"], "allowed is above 0 and below 1"),
        (["--prior", "1"], "prior is 1.0, allowed is above 0 and below 1"),
        (["--unsure", "0.7"], "unsure is 0.7, allowed is 0 to 0.5"),
        (["--rule", "f1"], "labelled images need --dataset and --root"),
        (
            ["--dataset", "folder", "--root", "x", "--normal", "y"],
            "leave --normal, --false-positive-rate, --prior and --unsure out",
        ),
        (["--normal", "nowhere"], "nowhere"),
        (["--rule", "best"], "best"),
        (["--missed-cost", "20"], "--rule cost, not None"),
        (["--dataset", "folder", "--root", "x", "--rule", "cost", "--missed-cost", "0"], "above 0"),
    ],
)
def test_wrong_flags_get_one_line_and_the_detector_stays(
    file: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = file.read_bytes()
    assert run(["calibrate", "--model", str(file), *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("{")]
    assert message in line
    assert file.read_bytes() == old
