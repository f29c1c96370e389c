"""Views of references: what they show, and which of them a product's images call normal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import sowa
from sowa.cli.app import run
from sowa.core.config import Settings
from sowa.data import load
from sowa.data.views import VIEWS, check, nearer, views
from sowa.detector.references import FEW, Selection, build
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.synthetic import generate


def original(height: int = 96, width: int = 96, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(height=st.integers(16, 60), width=st.integers(16, 60), seed=st.integers(0, 9))
def test_every_view_is_an_image_of_the_same_size(height: int, width: int, seed: int) -> None:
    image = original(height, width, seed)
    for kind in VIEWS:
        for view in views(image, [kind]):
            assert (view.shape, view.dtype) == (image.shape, np.uint8)
            assert not np.array_equal(view, image), kind


def test_views_are_what_they_are_called() -> None:
    image = original()
    assert views(image, ["hflip"])[0].tobytes() == image[:, ::-1].tobytes()
    assert views(image, ["vflip"])[0].tobytes() == image[::-1].tobytes()
    assert [view.tobytes() for view in views(image, ["rotate90", "rotate180"])] == [
        np.rot90(image, quarters).tobytes() for quarters in (1, 3, 2)
    ]
    assert views(original(96, 80), ["rotate90"]) == []  # a quarter doesn't fit into the frame
    grey = np.full((96, 96, 3), 100, np.uint8)
    assert all((view == 100).all() for view in [*views(grey, ["tilt"]), *nearer(grey)])  # no border is invented


def test_kinds_have_one_order_and_an_unknown_one_is_named() -> None:
    assert check(("rotate90", "hflip", "rotate90")) == ("hflip", "rotate90")
    assert check("tilt") == ("tilt",)
    assert check("auto") == "auto"
    with pytest.raises(InputError, match="augment is 'spin', allowed are auto, or some of hflip, vflip"):
        check(("hflip", "spin"))


def write(folder: Path, images: list[NDArray[np.uint8]]) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def oriented(seed: int) -> NDArray[np.uint8]:
    """A part that is red above and green below, whatever the draw."""
    image = original(seed=seed) // 64
    image[:48, :, 0] += 200
    image[48:, :, 1] += 200
    return image


@pytest.mark.parametrize("count", [1, 4])
def test_what_a_product_never_does_is_left_out(tiny_backbone: str, tmp_path: Path, count: int) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone)
    anyhow = write(tmp_path / "anyhow", [original(seed=seed) for seed in range(count)])
    upright = write(tmp_path / "upright", [oriented(seed) for seed in range(count)])
    assert {"hflip", "vflip", "rotate180"} <= set(detector.fit(anyhow, augment="auto").augment_)
    chosen = set(detector.fit(upright, augment="auto").augment_)
    assert "hflip" in chosen
    assert not {"vflip", "rotate180"} & chosen


@pytest.mark.parametrize("category", ["connector", "capsule", "printed_board"])
def test_mini_tilts_a_part_that_lies_one_way_and_never_mirrors_it(category: str) -> None:
    good = [generate(category, size=256, seed=seed).image for seed in range(4)]
    assert sowa.Sowa.from_pretrained("mini").fit(good, augment="auto").augment_ == ("tilt",)


def test_mini_mirrors_what_lies_anyhow() -> None:
    good = [generate("washer_tray", size=256, seed=seed).image for seed in range(4)]
    assert {"hflip", "vflip"} <= set(sowa.Sowa.from_pretrained("mini").fit(good, augment="auto").augment_)


def test_many_references_need_no_views(tiny_backbone: str, tmp_path: Path) -> None:
    good = write(tmp_path / "good", [original(seed=seed) for seed in range(FEW + 1)])
    detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(good, augment="auto")
    assert detector.augment_ == ()
    assert detector.bank_ is not None
    assert detector.bank_.features.shape[2] == 16


def test_a_mirrored_reference_is_known_only_where_views_are_in_the_bank(tiny_backbone: str) -> None:
    good = [generate("gear", size=96, seed=seed).image for seed in range(2)]
    mirrored = np.ascontiguousarray(good[0][:, ::-1])
    plain, augmented = (
        sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(precision="fp32")).fit(good, augment=kinds)
        for kinds in ((), ("hflip",))
    )
    assert augmented.predict(mirrored)[0].raw_score == pytest.approx(0, abs=1e-5)
    assert plain.predict(mirrored)[0].raw_score > 0.01


def test_a_reference_is_left_out_with_its_views(tiny_backbone: str) -> None:
    """Or else calibration would find each in the bank, mirrored twice."""
    good = [original(seed=seed) for seed in range(3)]
    detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(good, augment=("hflip", "rotate90"))
    assert detector.calibration_.threshold > 0.01


def test_auto_is_the_bank_of_the_kinds_that_it_chose(tiny_backbone: str) -> None:
    good = sowa.data.sources.image_sources([original(seed=seed) for seed in range(3)])
    encoder = TorchEncoder.from_pretrained(tiny_backbone, settings=Settings(precision="fp32"))
    auto = build(encoder, good, Selection(3, 2, augment="auto"))
    told = build(encoder, good, Selection(3, 2, augment=auto.augment))
    assert auto.augment
    np.testing.assert_allclose(auto.bank.features, told.bank.features, atol=1e-5)


def test_what_was_chosen_is_kept_with_the_detector(tiny_backbone: str, tmp_path: Path) -> None:
    good = [original(seed=seed) for seed in range(3)]
    detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(good, augment="auto")
    loaded = sowa.Sowa.load(detector.save(tmp_path / "x.sowa"))
    assert loaded.augment_ == detector.augment_ != ()
    assert loaded.predict(good[0])[0].raw_score == detector.predict(good[0])[0].raw_score
    assert detector.fit(good, augment=()).augment_ == ()


def test_a_test_judges_as_a_fitted_detector_does(tiny_backbone: str, dataset: Path) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(precision="fp32"))
    samples = load("mvtec", dataset, "wood")
    config = EvaluationConfig(k_shots=(2,), seeds=(0,), augment="auto")
    (found,) = evaluate(detector, "mvtec", samples, config).runs
    fitted = detector.fit(found.references, augment="auto")
    test = [sample for sample in samples if sample.split == "test"]
    scores = [fitted.predict(sample.image_path)[0].raw_score for sample in test]
    expected = sowa.metrics.image_metrics(scores, [bool(sample.label) for sample in test])
    assert found.metrics["image_AUROC"].value == pytest.approx(expected.image_AUROC.value, abs=1e-6)


def test_the_command_takes_kinds_and_refuses_others(
    tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good", [original(seed=seed) for seed in range(3)])
    base = ["fit", "--normal", str(good), "--backbone", tiny_backbone, "--out", str(tmp_path / "x.sowa")]
    for told, expected in (("rotate90,hflip", ("hflip", "rotate90")), ("none", ())):
        assert run([*base, "--augment", told]) == 0
        assert sowa.Sowa.load(tmp_path / "x.sowa").augment_ == expected
    assert run([*base, "--augment", "spin"]) == 2
    assert "augment is 'spin'" in capsys.readouterr().err.splitlines()[-1]
