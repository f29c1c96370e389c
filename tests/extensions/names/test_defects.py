"""Names of defects: what an image's defect is called, by words or by examples, and where it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import fitted
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import sowa
from sowa.cli.app import run
from sowa.core.config import Settings
from sowa.core.types import Features
from sowa.detector.exported import ExportedSowa
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.export import export
from sowa.extensions.names.config import NamerConfig
from sowa.extensions.names.defects import DefectNames
from sowa.extensions.names.expected import DefectProbability, ExpectedDefects
from sowa.extensions.names.namer import Namer
from sowa.extensions.names.scores import NameClassifier, example, region
from sowa.extensions.names.weights import load_namer, save_namer
from sowa.model.pretrained import build_backbone
from sowa.synthetic import write_dataset

GRID, NAMES = (4, 4), ["scratch", "missing part", "oil"]


@pytest.fixture(scope="module")
def namer(tiny_backbone: str) -> Namer:
    torch.manual_seed(0)
    return Namer(NamerConfig(hidden=16), 4, build_backbone(tiny_backbone)).eval()


@pytest.fixture(scope="module")
def defects(namer: Namer, tiny_backbone: str) -> NameClassifier:
    return NameClassifier(NAMES, namer, build_backbone(tiny_backbone))


@pytest.fixture(scope="module")
def expected(namer: Namer, tiny_backbone: str) -> DefectProbability:
    return DefectProbability(NAMES, namer, build_backbone(tiny_backbone))


def seen(seed: int = 0, images: int = 2) -> tuple[list[Tensor], Tensor]:
    """Raw patches of four levels and an anomaly map."""
    random = torch.Generator().manual_seed(seed)
    patches = [torch.randn(images, 16, 32, generator=random) for _ in range(4)]
    return patches, torch.rand(images, 16, generator=random)


@given(st.integers(0, 99))
def test_shares_of_names_and_of_flawless_make_up_the_anomaly_map(
    expected: DefectProbability, defects: NameClassifier, seed: int
) -> None:
    patches, anomaly = seen(seed)
    named = defects(patches, anomaly, GRID)
    torch.testing.assert_close(named.probabilities.sum(dim=1), torch.ones(2))
    assert named.maps.shape == (2, 3, 4, 4)
    assert (named.maps >= 0).all()
    damage = expected(patches[0], Features(tuple(patches), GRID, (4, 4)))
    torch.testing.assert_close(named.maps.sum(dim=1), (anomaly * damage).view(2, 4, 4))
    assert (damage <= 1).all()


def test_names_are_judged_by_what_they_say_not_by_their_place(
    namer: Namer, defects: NameClassifier, tiny_backbone: str
) -> None:
    patches, anomaly = seen()
    turned = NameClassifier(NAMES[::-1], namer, build_backbone(tiny_backbone))(patches, anomaly, GRID)
    named = defects(patches, anomaly, GRID)
    torch.testing.assert_close(turned.probabilities.flip(1), named.probabilities)
    torch.testing.assert_close(turned.maps.flip(1), named.maps)
    assert (named.probabilities[:, 0] - named.probabilities[:, 1]).abs().min() > 1e-4


def test_an_image_is_named_by_itself(defects: NameClassifier) -> None:
    patches, anomaly = seen()
    alone = defects([each[:1] for each in patches], anomaly[:1], GRID)
    torch.testing.assert_close(alone.probabilities, defects(patches, anomaly, GRID).probabilities[:1])


def test_the_region_is_the_highest_hundredth() -> None:
    anomaly = torch.zeros(2, 400)
    anomaly[0, [3, 50, 51, 399]] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    anomaly[0, 7] = 0.5
    weights = region(anomaly)
    torch.testing.assert_close(weights[0, [3, 50, 51, 399]], torch.tensor([0.1, 0.2, 0.3, 0.4]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))  # also where nothing is anomalous


def test_examples_pull_to_their_name(namer: Namer, defects: NameClassifier, tiny_backbone: str) -> None:
    patches, anomaly = seen()
    one = [each[:1] for each in patches]
    shown = {"oil": example(namer, one, region(anomaly[:1]))}
    taught = NameClassifier(NAMES, namer, build_backbone(tiny_backbone), shown)(patches, anomaly, GRID)
    before = defects(patches, anomaly, GRID)
    assert taught.probabilities[0, 2] > before.probabilities[0, 2]
    assert taught.probabilities[0].argmax() == 2


@pytest.mark.parametrize("names", [[], ["scratch", " "], ["oil", "oil "]])
def test_names_that_cannot_be_are_refused(names: list[str], namer: Namer, tiny_backbone: str) -> None:
    with pytest.raises(InputError, match="none empty and none twice"):
        NameClassifier(names, namer, build_backbone(tiny_backbone))


def test_a_namer_is_kept_in_16_bits_and_for_its_backbone_alone(
    namer: Namer, tiny_backbone: str, tmp_path: Path
) -> None:
    path, backbone = tmp_path / "namer.safetensors", build_backbone(tiny_backbone)
    save_namer(namer, backbone, {"steps": 0}, path)
    patches, _ = seen()
    torch.testing.assert_close(
        load_namer(backbone, path).encode_patches(patches), namer.encode_patches(patches), atol=5e-3, rtol=0
    )
    with pytest.raises(InputError, match=r"told through backbone .*other levels"):
        load_namer(build_backbone(tiny_backbone, (0, 1)), path)
    with pytest.raises(InputError, match="'mini', this is"):
        load_namer(build_backbone("mini:random"))


@pytest.fixture(scope="module")
def wood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good wood, and wood with plain scratches and holes."""
    root = tmp_path_factory.mktemp("wood")
    write_dataset(root, ["wood"], train=2, test=(1, 4), seed=3, severity=0.8)
    return root / "wood"


@pytest.fixture(scope="module")
def detector(wood: Path) -> sowa.Sowa:
    return sowa.Sowa.from_pretrained("mini").fit(wood / "train" / "good", augment=())


def test_mini_tells_scratches_from_holes(detector: sowa.Sowa, wood: Path) -> None:
    detector.annotators = [DefectNames(detector, ["hole", "scratch"])]
    names = {
        kind: [p.annotations["defects"][0].name for p in detector.predict(wood / "test" / kind)]
        for kind in ("scratch", "hole")
    }
    assert names["scratch"].count("scratch") >= 3
    assert names["hole"].count("hole") >= 3
    found = detector.predict(wood / "test" / "scratch" / "000.png")[0]
    defects = found.annotations["defects"]
    assert found.to_dict()["defects"] == {each.name: round(each.probability, 4) for each in defects}
    assert defects[0].probability > defects[1].probability
    assert defects[0].defect_map.shape == (24, 24)
    assert defects[0].defect_map.max() <= found.level_maps.sum(axis=0).max() + 1e-4
    detector.annotators = []
    plain = detector.predict(wood / "test" / "scratch" / "000.png")[0]
    assert plain.annotations == {}
    assert "defects" not in plain.to_dict()
    assert np.array_equal(plain.anomaly_map, found.anomaly_map)


def test_examples_teach_what_words_do_not(detector: sowa.Sowa, wood: Path) -> None:
    """Two nonsense words, one example each."""
    shown = {"blip": wood / "test" / "scratch" / "000.png", "blop": wood / "test" / "stain" / "000.png"}
    detector.annotators = [DefectNames(detector, ["blip", "blop"], shown)]
    (scratch, stain) = (detector.predict(wood / "test" / kind / "001.png")[0] for kind in ("scratch", "stain"))
    assert [each.annotations["defects"][0].name for each in (scratch, stain)] == ["blip", "blop"]
    with pytest.raises(InputError, match="'blop', which is none of blip"):
        DefectNames(detector, ["blip"], shown)


def test_the_command_names_defects(
    detector: sowa.Sowa, wood: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(detector.save(tmp_path / "wood.sowa"))
    source, shown = str(wood / "test" / "scratch" / "001.png"), tmp_path / "shown"
    (shown / "scratch").mkdir(parents=True)
    (shown / "scratch" / "a.png").write_bytes((wood / "test" / "scratch" / "000.png").read_bytes())
    assert run(["predict", source, "--model", model, "--defect", "hole", "missing part", "--defect", "scratch"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(line["defects"]) == {"hole", "missing part", "scratch"}
    assert next(iter(line["defects"])) == "scratch"
    assert run(["predict", source, "--model", model, "--examples", str(shown)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["defects"] == {"scratch": 1.0}
    assert run(["predict", source, "--model", model, "--examples", str(shown / "scratch")]) == 2
    assert "holds no folder" in capsys.readouterr().err


@pytest.fixture
def tiny_namer(namer: Namer, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny backbone has a namer of its own, as `mini` has."""
    path = tmp_path / "tiny-namer.safetensors"
    save_namer(namer, build_backbone(tiny_backbone), {}, path)
    monkeypatch.setattr("sowa.extensions.names.weights.packaged", lambda name: path)


@pytest.mark.usefixtures("tiny_namer")
@pytest.mark.parametrize("tiled", [False, True])
def test_what_looks_like_no_expected_defect_counts_less(
    tiny_backbone: str, normal: Path, images: np.ndarray, tmp_path: Path, tiled: bool
) -> None:
    def fitted(*expected: str) -> sowa.Sowa:
        settings = Settings(precision="fp32", tiled=tiled)
        extensions = [ExpectedDefects(expected)] if expected else []
        return sowa.Sowa.from_pretrained(tiny_backbone, settings=settings, extensions=extensions).fit(normal, k_shot=3)

    plain, steered = fitted(), fitted("hole", " oil ")
    images = np.tile(images, (1, 2, 2, 1)) if tiled else images
    before, after = (each.judge(each.encoder.encode(images)) for each in (plain, steered))
    damage = steered.encoder.encode(images).patch_values["expected_defects"]
    assert 0 < damage.min() < damage.max() < 1
    torch.testing.assert_close(after.level_maps, before.level_maps * damage.view(-1, 1, *before.level_maps.shape[2:]))
    assert steered.calibration_.threshold < plain.calibration_.threshold
    loaded = sowa.Sowa.load(steered.save(tmp_path / "steered.sowa"), settings=Settings(precision="fp32"))
    assert loaded.extensions[0].names == ("hole", "oil")
    assert torch.equal(loaded.judge(loaded.encoder.encode(images)).maps, after.maps)


@pytest.mark.usefixtures("tiny_namer")
def test_expected_defects_are_exported_too(
    tiny_backbone: str, normal: Path, images: np.ndarray, tmp_path: Path
) -> None:
    detector = sowa.Sowa.from_pretrained(
        tiny_backbone, settings=Settings(precision="fp32"), extensions=[ExpectedDefects(["hole"])]
    ).fit(normal, k_shot=2)
    export(detector, tmp_path / "made", "torch")
    made = ExportedSowa.load(tmp_path / "made").engine(images)
    np.testing.assert_allclose(made.raw_scores, detector.judge(detector.encoder.encode(images)).raw_scores, atol=1e-5)


@pytest.mark.usefixtures("tiny_namer")
def test_expected_defects_on_the_command_line(
    tiny_backbone: str, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--normal", str(normal), "--backbone", tiny_backbone, "--out", str(tmp_path / "a.sowa")]
    assert run([*fit, "--expect", "hole", "missing part"]) == 0
    assert sowa.Sowa.load(tmp_path / "a.sowa").extensions[0].names == ("hole", "missing part")
    assert run([*fit, "--expect", "hole", "hole"]) == 2
    assert run([*fit, "--expect", "hole", "--tiled", "--glances", "2"]) == 2
    assert "leave expected_defects out, or glances" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny_namer")
def test_names_are_kept_apart_from_what_was_before(tiny_backbone: str, normal: Path, images: np.ndarray) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(precision="fp32")).fit(normal, k_shot=2)
    names = DefectNames(detector, [" oil", "hole "], {"oil ": normal})
    assert [len(each.nonzero()) > 0 for each in names.classifier.examples] == [True, False]
    assert names.classifier.names == ("oil", "hole")
    for wrong in ((["hole"], {"oil": normal}), ([], {"oil": normal}), (["hole", "hole"], {})):
        with pytest.raises(InputError):
            DefectNames(detector, *wrong)
    detector.annotators = [names]
    assert detector.fit(normal, k_shot=2).annotators == []  # the examples were judged with the bank before


@pytest.mark.usefixtures("tiny_namer")
def test_a_detector_is_not_judged_by_another_namer(
    tiny_backbone: str, normal: Path, namer: Namer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone, extensions=[ExpectedDefects(["hole"])]).fit(normal, k_shot=2)
    path = detector.save(tmp_path / "a.sowa")
    torch.manual_seed(7)
    other = Namer(namer.config, 4, build_backbone(tiny_backbone))
    save_namer(other, build_backbone(tiny_backbone), {}, tmp_path / "other.safetensors")
    monkeypatch.setattr("sowa.extensions.names.weights.packaged", lambda name: tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"a\.sowa: expected defects were told by other weights"):
        sowa.Sowa.load(path)


@pytest.mark.usefixtures("tiny_namer")
def test_with_expected_defects_prompts_have_no_say(tiny_backbone: str, normal: Path, images: np.ndarray) -> None:
    prompted = fitted(tiny_backbone, normal, levels=None)
    encoder = TorchEncoder(prompted.encoder.network, trained=True, settings=Settings(precision="fp32"))
    steered = sowa.Sowa(encoder, [ExpectedDefects(["hole"])])
    steered.bank_ = prompted.bank_
    seen = steered.encoder.encode(images)
    distances = prompted.bank_.distances(seen.patches) * seen.patch_values["expected_defects"]
    torch.testing.assert_close(steered.judge(seen).level_maps.flatten(2).transpose(0, 1), distances)
