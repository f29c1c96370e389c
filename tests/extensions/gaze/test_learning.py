"""Saliency that learns from gaze: the loss, that it finds what draws people's eyes, and the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sowa.cli.app import run
from sowa.core.config import AdapterConfig, ModelConfig, SaliencyConfig, Settings
from sowa.data import load
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.gaze.comparing import baselines, compare
from sowa.extensions.gaze.density import pool
from sowa.extensions.gaze.fixations import Gaze, Viewing, read_csv, write_csv
from sowa.extensions.gaze.learning import GazeLoss, Watched, apart, attention_map, gaze_loss, learn, watch
from sowa.extensions.gaze.observers import simulate
from sowa.training.config import TrainConfig
from sowa.training.train import train

SIDE, PER_DEGREE = 128, 10.0


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images with a red and a grey disc each, and a CSV file of simulated people who look for red."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    viewings: list[Viewing] = []
    for index in range(16):
        image = random.normal(110, 6, (SIDE, SIDE, 1)).repeat(3, axis=2)
        places = random.permutation([(28, 28), (28, 100), (100, 28), (100, 100)])[:2]
        red, grey = (((rows - y) ** 2 + (columns - x) ** 2 < 14**2) for y, x in places)
        image[red], image[grey] = (200, 60, 60), (220, 220, 220)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index:02d}.png")
        viewings += simulate(f"{index:02d}.png", red, 6, seed=1)
    write_csv(folder / "fixations.csv", viewings)
    return folder, folder / "fixations.csv"


@pytest.fixture
def salient(tiny_backbone: str) -> TorchEncoder:
    config = ModelConfig(adapter=AdapterConfig(window_size=4, heads=4), saliency=SaliencyConfig())
    encoder = TorchEncoder.from_pretrained(
        tiny_backbone, config=config, settings=Settings(precision="fp32", image_size=(SIDE, SIDE))
    )
    encoder.trained = True
    return encoder


def watched(encoder: TorchEncoder, looked_at: tuple[Path, Path]) -> list[Watched]:
    folder, fixations = looked_at
    gaze = read_csv(fixations)
    return watch(encoder, gaze, {name: folder / name for name in gaze.images}, PER_DEGREE).watched


def shares(seed: int, patches: int = 12) -> torch.Tensor:
    return torch.rand(2, patches, generator=torch.Generator().manual_seed(seed)).double().pow(3).softmax(dim=1)


@given(st.integers(0, 99), st.floats(-50, 50))
def test_the_loss_is_least_where_people_look_and_knows_no_level(seed: int, level: float) -> None:
    people, other = shares(seed), shares(seed + 1)
    least = gaze_loss(people.log(), people)
    assert least < gaze_loss(other.log(), people)
    assert least < gaze_loss(torch.zeros_like(people), people)
    torch.testing.assert_close(gaze_loss(people.log() + level, people), least)


def test_images_are_read_with_all_that_is_known_of_them(salient: TorchEncoder, looked_at: tuple[Path, Path]) -> None:
    found = watched(salient, looked_at)
    assert [each.name for each in found] == [f"{index:02d}.png" for index in range(16)]
    first = found[0]
    assert first.size == (SIDE, SIDE)
    assert len(first.viewings) == 6
    assert first.looked_at.sum().item() == pytest.approx(1, abs=1e-5)
    assert np.allclose(first.looked_at.numpy(), pool(first.density, first.grid).ravel(), atol=1e-6)
    pixels = salient.normalise(np.array(Image.open(looked_at[0] / "00.png"))[None])
    patches, grid = salient.network.backbone.patches(pixels)
    with torch.no_grad():
        whole = salient.network.stands_out(pixels, patches[0], grid)
        parts = salient.network.saliency.weigh(first.channels[None], first.early[None], grid)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)


def test_what_draws_the_eyes_is_learned_and_found_on_other_images(
    salient: TorchEncoder, looked_at: tuple[Path, Path]
) -> None:
    training, testing = apart(watched(salient, looked_at), 0.25, seed=0)
    assert (len(training), len(testing)) == (12, 4)
    saliency = salient.network.saliency
    network = {"network": lambda each: attention_map(saliency, each)}
    before = compare(testing, network, PER_DEGREE)["network"].metrics()
    losses = learn(salient, training, seed=3)
    after = compare(testing, network | baselines(training), PER_DEGREE)
    assert losses[-1] < losses[0]
    for name, score in after["network"].metrics().items():
        gain = score.value - before[name].value
        assert (gain < 0) if name == "KL" else (gain > 0), name
    for baseline in ("everywhere alike", "the centre"):
        assert after["network"].KL.value < after[baseline].KL.value
    assert after["network"].NSS.value < after["other people"].NSS.value


def test_learning_is_the_same_for_the_same_seed_and_leaves_the_rest(
    salient: TorchEncoder, looked_at: tuple[Path, Path]
) -> None:
    found, before = watched(salient, looked_at), {n: p.clone() for n, p in salient.network.trainable().items()}
    first = learn(salient, found, seed=1)
    changed = {n for n, p in salient.network.trainable().items() if not torch.equal(p, before[n])}
    assert changed == {f"saliency.{name}" for name in ("weights", "centre", "direction")}
    with torch.no_grad():
        for name in changed:
            salient.network.trainable()[name].copy_(before[name])
    assert learn(salient, found, seed=1) == first
    assert learn(salient, found, seed=2) != first


def test_training_learns_gaze_and_defects_in_one_run(
    salient: TorchEncoder, looked_at: tuple[Path, Path], dataset: Path, tmp_path: Path
) -> None:
    samples = load("mvtec", dataset, "wood")
    looking = GazeLoss(watched(salient, looked_at), seed=0)
    before = {name: p.detach().clone() for name, p in salient.network.trainable().items()}
    start = looking.of_saliency(salient.network.saliency, 0).item()
    config = TrainConfig(epochs=2, batch_size=4, learning_rate=0.01, gaze_weight=2.0)
    train(salient, samples, config, tmp_path / "both.safetensors", auxiliary=looking)
    assert looking.of_saliency(salient.network.saliency, 0).item() < start
    after = {name: p.detach().clone() for name, p in salient.network.trainable().items()}
    assert not torch.equal(after["adapters.0.blocks.0.saliency_gate"], before["adapters.0.blocks.0.saliency_gate"])
    with torch.no_grad():
        for name, parameter in salient.network.trainable().items():
            parameter.copy_(before[name])
    train(salient, samples, TrainConfig(epochs=2, batch_size=4, learning_rate=0.01), tmp_path / "one.safetensors")
    assert not torch.equal(salient.network.saliency.weights, after["saliency.weights"])


def test_gaze_is_learned_and_compared_on_the_command_line(
    tiny_backbone: str, looked_at: tuple[Path, Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, fixations = (str(path) for path in looked_at)
    weights, learned = str(tmp_path / "w.safetensors"), str(tmp_path / "gaze.safetensors")
    people = ["--fixations", fixations, "--images", folder, "--pixels-per-degree", "10"]
    training = [
        "train",
        "--dataset",
        "mvtec",
        "--root",
        str(dataset),
        "--category",
        "wood",
        "--backbone",
        tiny_backbone,
    ]
    settings = ["--adapter.window-size", "4", "--adapter.heads", "4"]
    both = ["--saliency", "backbone", "--gaze", fixations, "--gaze-images", folder]
    assert run([*training, *settings, *both, "--out", weights]) == 0
    assert run(["gaze", "train", *people, "--model", weights, "--out", learned]) == 0
    capsys.readouterr()
    told = []
    for model in (weights, learned):
        assert run(["gaze", "test", *people, "--model", model]) == 0
        told.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert told[0]["images"] == 16
    assert set(told[0]["metrics"]) == {"everywhere alike", "the centre", "the network", "other people"}
    assert told[1]["metrics"]["the network"]["KL"] < told[0]["metrics"]["the network"]["KL"]
    assert told[1]["metrics"]["the centre"] == told[0]["metrics"]["the centre"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["gaze", "train", "--backbone", "TINY", "--out", "OUT"], "aren't trained"),
        (["gaze", "test", "--backbone", "TINY", "--pixels-per-degree", "0"], "0.0 pixels"),
        (["gaze", "test", "--backbone", "TINY", "--pixels-per-degree", "0.001"], "too few to be seen"),
        (["gaze", "test", "--backbone", "TINY", "--images", "OTHER"], "has none of the 16 images"),
        (["gaze", "test", "--backbone", "TINY", "--fixations", "missing.csv"], "missing.csv"),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str],
    told: str,
    tiny_backbone: str,
    looked_at: tuple[Path, Path],
    normal: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = {"TINY": tiny_backbone, "OUT": str(tmp_path / "w.safetensors"), "OTHER": str(normal)}
    given = [words.get(flag, flag) for flag in flags]
    for flag, value in (("--fixations", looked_at[1]), ("--images", looked_at[0])):
        if flag not in given:
            given += [flag, str(value)]
    assert run(given) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_saliency_or_images_it_says_so(tiny_backbone: str, looked_at: tuple[Path, Path]) -> None:
    gaze = read_csv(looked_at[1])
    plain = TorchEncoder.from_pretrained(tiny_backbone)
    with pytest.raises(InputError, match="no saliency"):
        watch(plain, gaze, {}, PER_DEGREE)
    salient = TorchEncoder.from_pretrained(tiny_backbone, saliency=SaliencyConfig())
    with pytest.raises(InputError, match="nobody looked"):
        watch(salient, Gaze(()), {"00.png": looked_at[0] / "00.png"}, PER_DEGREE)
    one = watch(salient, gaze, {"00.png": looked_at[0] / "00.png"}, PER_DEGREE).watched
    with pytest.raises(InputError, match=r"1 image.*give more"):
        apart(one, 0.2, seed=0)
    for fraction in (float("nan"), -1.0, 2.0):
        with pytest.raises(InputError, match="give more"):
            apart(one * 3, fraction, seed=0)
