"""How many reference images a product needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sowa
from sowa.cli.app import run
from sowa.core.config import Settings
from sowa.core.scoring import few_shot_scores
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource, image_sources
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.shots.config import ShotsConfig
from sowa.shots.curve import Choice, Point, one_standard_error, point
from sowa.shots.folds import check, cross_validate, folds, suited
from sowa.shots.growing import Round, grow
from sowa.shots.pool import Pool
from sowa.synthetic import generate, write_dataset

SMALL = ShotsConfig(candidates=(1, 2, 4), folds=3, draws=2)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine normal images of ceramic tile, and three kinds of defect."""
    return write_dataset(tmp_path_factory.mktemp("product"), ["wood"], train=9, test=(1, 1), size=96)


@pytest.fixture
def pool(tiny_backbone: str, product: Path) -> Pool:
    return Pool(TorchEncoder.from_pretrained(tiny_backbone), image_sources(product / "wood" / "train" / "good"))


class Covered(Pool):
    """A pool that encodes nothing: a normal image is near ``share`` of the references, an anomalous one near none.

    A bank of k references so has an image AUROC of 1 - (1 - share)^k, but for chance.
    """

    def __init__(self, normal: int, anomalous: int | None, share: float = 0.5) -> None:
        self.normal = [ImageSource(str(index), Path(str(index))) for index in range(normal)]
        self.generated = anomalous is None
        self.anomalous = self.normal if anomalous is None else self.normal[:anomalous]
        self.near = np.random.default_rng(0).random((normal, normal)) < share
        self.encoded, self.encoding = 0, 0.0

    def readable(self, numbers: Any, at_most: int | None = None) -> list[int]:
        return list(numbers)[:at_most]

    def distances(self, references: Any, judged: Any) -> torch.Tensor:
        assert not set(references) & set(judged), "an image is judged by itself"
        found = np.full((1, len(judged), 1, len(references)), 0.5)
        for row, number in enumerate(judged):
            if number < len(self.normal):
                found[0, row, 0] = np.where(self.near[number, references], 0.1, 1.0)
        return torch.from_numpy(found)


@given(
    normal=st.integers(4, 40), anomalous=st.none() | st.integers(1, 40), count=st.integers(2, 4), seed=st.integers(0, 9)
)
def test_every_image_is_judged_once_by_references_of_other_folds(
    normal: int, anomalous: int | None, count: int, seed: int
) -> None:
    pool = Covered(normal, anomalous)
    found = folds(pool, ShotsConfig(folds=count, seed=seed))
    judged = [number for _, part in found for number in part]
    assert sorted(judged) == list(range(normal + len(pool.anomalous)))
    for references, part in found:
        assert sorted(references + [number for number in part if number < normal]) == list(range(normal))
        if pool.generated:  # else a bank would hold the image that the defect was drawn onto
            assert {number - normal for number in part if number >= normal} == {n for n in part if n < normal}


def test_the_smallest_number_within_a_standard_error_is_taken() -> None:
    # The second and third number differ from fold to fold by 0.1, which is of no matter: they differ alike.
    by_fold = np.array([[0.70, 0.78, 0.80, 0.79], [0.80, 0.89, 0.90, 0.88], [0.85, 1.00, 1.00, 0.97]])
    assert one_standard_error([1, 2, 4, 8], by_fold) == (4, 4)  # 2 lacks 0.01, and its error is 0.006
    by_fold[2, 1] = 1.01  # now 0.007 and 0.007: within, though barely
    assert one_standard_error([1, 2, 4, 8], by_fold) == (2, 4)
    assert one_standard_error([4, 8], by_fold[:, 2:]) == (4, 4)


def test_the_interval_is_students_over_folds() -> None:
    found = point(4, [0.7, 0.8, 0.9])
    assert (found.mean, found.error) == (pytest.approx(0.8), pytest.approx(0.1 / 3**0.5))
    assert found.high - found.mean == pytest.approx(min(0.2, 4.303 * found.error), abs=1e-3)
    assert found.mean - found.low == pytest.approx(4.303 * found.error, abs=1e-3)


def test_cross_validation_sees_what_more_images_bring() -> None:
    choice = cross_validate(Covered(200, 200, share=0.75), ShotsConfig(draws=10))
    expected = [1 - 0.25**count for count in ShotsConfig().candidates]
    assert [p.mean for p in choice.points] == pytest.approx(expected, abs=0.03)
    assert choice.chosen == 8  # 16 brings no more
    assert choice.fits == 5 * 10 * 5


def test_growing_stops_where_more_images_stop_helping_and_says_why() -> None:
    choice = grow(Covered(200, 200), ShotsConfig(tolerance=0.1, patience=1))
    assert (choice.chosen, choice.fits) == (4, 4 * 5 * 2)
    assert "8 brought no more than 0.1 over 4" in choice.reason
    slow = Covered(200, 200, share=0.25)  # 0.25, 0.44, 0.68, 0.90, 0.99
    assert grow(slow, ShotsConfig(tolerance=0.25, patience=1)).chosen == 1
    patient = grow(slow, ShotsConfig(tolerance=0.35, patience=2))
    assert (patient.chosen, patient.fits) == (4, 5 * 5 * 2)
    assert "the largest number" in grow(slow, ShotsConfig(tolerance=0.01)).reason


def test_a_bank_that_grows_is_the_bank_of_all_its_references(pool: Pool) -> None:
    grown = Round(pool, list(range(5)), [5, 6, 5 + len(pool.normal)], seed=3)
    grown.grow(1)
    grown.grow(4)
    order = draw(range(5), 4, 3)
    assert grown.nearest_LQP is not None
    torch.testing.assert_close(
        grown.nearest_LQP, pool.distances(order, [5, 6, 5 + len(pool.normal)]).amin(dim=3), rtol=0, atol=0
    )


def test_images_are_encoded_once_for_all_folds_and_methods(pool: Pool) -> None:
    first = cross_validate(pool, SMALL)
    assert first.encoded == 18  # nine, and nine with a defect
    assert grow(pool, SMALL).encoded == 0
    assert cross_validate(pool, SMALL).points == first.points


def test_scores_are_those_of_a_detector_with_the_same_references(tiny_backbone: str, product: Path) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(precision="fp32"))
    pool = Pool(detector.encoder, image_sources(product / "wood" / "train" / "good"))
    numbers = pool.readable(range(6))
    by_reference = pool.distances(numbers[:4], numbers[4:])
    for count in (2, 4):
        scores = few_shot_scores(by_reference[..., :count].amin(dim=3))
        detector.fit([pool.normal[number].origin for number in numbers[:count]], augment=())
        expected = [detector.predict(pool.normal[number].origin)[0].raw_score for number in numbers[4:]]
        np.testing.assert_allclose(scores, expected, rtol=2e-3)


def test_a_defect_is_the_same_whenever_it_is_drawn(pool: Pool) -> None:
    image = generate("wood", size=96, seed=3).image
    assert np.array_equal(pool._damaged(image, 12), pool._damaged(image, 12))
    assert not np.array_equal(pool._damaged(image, 12), image)


def test_a_broken_image_is_left_out_and_named(tiny_backbone: str, product: Path, tmp_path: Path) -> None:
    good = product / "wood" / "train" / "good"
    for path in good.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and no more")
    pool = Pool(TorchEncoder.from_pretrained(tiny_backbone), image_sources(tmp_path))
    choice = cross_validate(pool, SMALL)
    assert choice.encoded == 18
    assert {Path(name).name for name, _ in pool.skipped} == {"broken.png"}


def shots(*arguments: object) -> int:
    return run(["shots", *map(str, arguments)])


def test_the_command_says_how_many_in_words_numbers_and_an_image(
    tiny_backbone: str, product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--candidates", "1,2,4", "--folds", 3, "--draws", 2, "--backbone", tiny_backbone)
    files = ("--out", tmp_path / "curve.png", "--json", tmp_path / "shots.json")
    assert shots("--normal", product / "wood" / "train" / "good", "--method", "all", *small, *files) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    saved = json.loads((tmp_path / "shots.json").read_text())
    assert [each["method"] for each in saved] == ["cv", "progressive", "meta"]
    assert [each["labels"] for each in saved] == ["generated", "generated", "none"]
    assert [event["chosen"] for event in events] == [each["chosen"] for each in saved]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_real_anomalies_are_used_where_they_are_asked_for(
    tiny_backbone: str, product: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ("--dataset", "mvtec", "--root", product, "--labels", "real", "--candidates", "1,2")
    assert shots(*known, "--folds", 2, "--backbone", tiny_backbone) == 0
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert event["labels"] == "real"
    bad = sum(1 for path in (product / "wood" / "test").glob("*/*.png") if path.parent.name != "good")
    assert event["encoded"] == 9 + bad


def test_a_stopped_run_goes_on_with_what_it_encoded(
    tiny_backbone: str, product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--normal", product / "wood" / "train" / "good", "--candidates", "1,2", "--backbone", tiny_backbone)
    found = []
    for _ in range(2):
        assert shots(*flags, "--work", tmp_path / "work") == 0
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [each["encoded"] for each in found] == [18, 0]
    assert found[0]["points"] == found[1]["points"]


def test_fit_finds_out_how_many_by_itself(
    tiny_backbone: str, product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, out = product / "wood" / "train" / "good", tmp_path / "x.sowa"
    flags = ["--backbone", tiny_backbone, "--out", str(out), "--k-shot", "auto"]
    assert run(["fit", "--normal", str(good), *flags]) == 0
    told = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("Take "))
    pool = Pool(TorchEncoder.from_pretrained(tiny_backbone), draw(image_sources(good), 9, 0))
    choice = cross_validate(pool, suited(ShotsConfig(), 9))
    assert len(sowa.Sowa.load(out).references_) == choice.chosen
    assert told.startswith(f"Take {choice.chosen} good image")
    one = str(next(good.iterdir()))
    assert run(["fit", "--normal", one, *flags]) == 2
    assert "1 normal image(s) can't tell how many are needed" in capsys.readouterr().err


@given(normal=st.integers(0, 60))
def test_a_question_is_suited_to_the_images_that_there_are(normal: int) -> None:
    if normal < 2:
        with pytest.raises(InputError, match="can't tell"):
            suited(ShotsConfig(), normal)
        return
    config = suited(ShotsConfig(), normal)
    check(Covered(normal, None), config)
    more = [shots for shots in ShotsConfig().candidates if shots not in config.candidates]
    assert not more or min(more) > normal - -(-normal // config.folds)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--normal", "GOOD", "--method", "meta", "--candidates", "1,32"), "candidates are [1, 32]"),
        (("--normal", "ONE", "--method", "meta"), "1 normal images can be read, needed are 3"),
        (("--normal", "GOOD", "--folds", 10), "9 normal images, needed are 10"),
        (("--normal", "GOOD", "--candidates", "1,8"), "allowed are 7"),
        (("--normal", "ONE"), "1 normal images, needed are 5"),
        (("--normal", "GOOD", "--labels", "real"), "--labels real needs real anomalies"),
        (("--dataset", "folder", "--root", "GOOD", "--labels", "real"), "no anomalous image"),
        (("--normal", "GOOD", "--candidates", "0,1"), "candidates are [0, 1]"),
        (("--normal", "GOOD", "--candidates", "2,2"), "none twice"),
        (("--normal", "GOOD", "--folds", 1), "folds 1 must be 2 or more"),
        (("--normal", "GOOD", "--tolerance", 1), "tolerance is 1"),
        (("--normal", "GOOD", "--at-most", 0), "--at-most is 0"),
        (("--dataset", "folder"), "give --normal FOLDER, or --dataset and --root"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    tiny_backbone: str, product: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], told: str
) -> None:
    good = product / "wood" / "train" / "good"
    places = {"GOOD": good, "ONE": next(good.iterdir())}
    assert shots(*(places.get(str(part), part) for part in arguments), "--backbone", tiny_backbone) == 2
    line = capsys.readouterr().err.strip().splitlines()
    assert len(line) == 1
    assert told in line[0]


def test_a_choice_is_plain_numbers() -> None:
    choice = Choice(
        "cv", "real", (Point(1, 0.9, 0.01, 0.88, 0.92), Point(2, 0.95, 0.0, 0.9, 1.0)), 1, 2, "", 2, 3, 0.5, 0.4
    )
    assert json.loads(json.dumps(choice.to_dict()))["points"][1]["shots"] == 2
    assert choice.gain == pytest.approx(0.05)
