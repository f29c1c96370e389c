"""Training: who is held out, that it learns, that a stopped run goes on, and what ends it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_clip
from PIL import Image

from sowa.core.config import AdapterConfig, ModelConfig, PromptConfig, Settings
from sowa.core.files import read_metadata
from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data import load_mvtec
from sowa.detector.detector import Sowa
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError, TrainingError
from sowa.model.backbone import Backbone
from sowa.model.checkpoint import trained_tensors
from sowa.model.sowa import SowaNetwork
from sowa.training.config import TrainConfig
from sowa.training.data import Loader, hold_out
from sowa.training.train import train

MODEL = ModelConfig(
    adapter=AdapterConfig(window_size=3), prompt=PromptConfig(class_names=("wood", "capsule"), length=4)
)
CONFIG = TrainConfig(epochs=2, batch_size=4, checkpoint_every=3, mosaic=0.4)


def tiny_encoder(config: ModelConfig = MODEL) -> TorchEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SowaNetwork(Backbone(tiny_clip(), "tiny"), config)
        return TorchEncoder(network, trained=False, settings=Settings("cpu"))


@pytest.fixture(scope="module")
def samples(dataset: Path) -> list[Sample]:
    """Every other test image: normal and anomalous ones of both categories."""
    return [sample for sample in load_mvtec(dataset) if sample.split == "test"][::2]


def halves(folder: Path, name: str, colour: int, white: str | None) -> Sample:
    """A 64 x 64 image of one colour channel; the anomalous part, if any, is a white half with its mask."""
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    image[..., colour] = 100
    part = {None: np.s_[:0], "left": np.s_[:, :32], "top": np.s_[:32], "all": np.s_[:]}[white]
    image[part], mask[part] = 255, 255
    category = ("red", "green", "blue")[colour]
    path, mask_path = folder / f"{category}-{name}.png", folder / f"{category}-{name}-mask.png"
    Image.fromarray(image).save(path)
    Image.fromarray(mask).save(mask_path)
    return Sample(path, category, "test", ABNORMAL if white else NORMAL, mask_path if white else None)


@pytest.fixture
def originals(tmp_path: Path) -> list[Sample]:
    kinds = (None, "left", "top", "all")
    return [halves(tmp_path, f"{kind}-{n}", colour, kind) for colour in (0, 2) for kind in kinds for n in range(2)]


# ---------------------------------------------------------------------------------------------------------- hold_out


def listed(category: str, normal: int, abnormal: int, split: str = "test", masks: bool = True) -> list[Sample]:
    def path(kind: str, index: int) -> Path:
        return Path(category, split, kind, f"{index}.png")

    good = [Sample(path("good", index), category, split, NORMAL) for index in range(normal)]
    mask = Path("mask.png") if masks else None
    return good + [Sample(path("bad", index), category, split, ABNORMAL, mask) for index in range(abnormal)]


def test_images_are_held_out_by_category_and_label():
    everything = listed("a", 10, 20) + listed("b", 5, 15)
    training, held_out = hold_out(everything, TrainConfig(validation_fraction=0.2))
    counts = Counter((sample.category, sample.label) for sample in held_out)
    assert counts == {("a", NORMAL): 2, ("a", ABNORMAL): 4, ("b", NORMAL): 1, ("b", ABNORMAL): 3}
    assert len(training) + len(held_out) == len(everything)
    assert {sample.image_path for sample in training + held_out} == {sample.image_path for sample in everything}


def test_what_is_held_out_depends_on_the_seed_alone():
    everything = listed("a", 20, 20)
    first = hold_out(everything, TrainConfig(seed=1))
    assert hold_out(everything, TrainConfig(seed=1)) == first
    assert hold_out(everything, TrainConfig(seed=2)) != first


def test_the_paper_protocol_trains_on_the_whole_test_split_and_holds_nothing_out():
    test, further = listed("a", 5, 5), listed("a", 7, 0, split="train")
    training, held_out = hold_out(further + test, TrainConfig(protocol="paper"))
    assert training == test
    assert held_out == []
    assert len(hold_out(further + test, TrainConfig())[0]) == round(0.8 * 17)


def test_images_without_label_or_mask_arent_trained_on():
    unusable = [*listed("a", 0, 4, masks=False), Sample(Path("unknown.png"), "a", "test")]
    training, held_out = hold_out(listed("a", 5, 5) + unusable, TrainConfig())
    assert not set(unusable) & set(training + held_out)


@pytest.mark.parametrize(("protocol", "left"), [("held-out", 7), ("paper", 9)])
def test_training_without_an_anomalous_image_with_a_mask_is_refused(protocol, left):
    useless = listed("a", 9, 0) + listed("a", 0, 4, masks=False)
    with pytest.raises(InputError, match=f"{left} images to train on and none is anomalous with a mask"):
        hold_out(useless, TrainConfig(protocol=protocol))


# ----------------------------------------------------------------------------------------------------------- batches


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own(originals):
    loader = Loader(originals, (64, 64), TrainConfig(batch_size=5, mosaic=0.0), [])
    epochs = [[loader.batch(4 * epoch + step) for step in range(4)] for epoch in range(2)]
    expected = Counter(Counter(sample.category for sample in originals))
    for epoch in epochs:
        assert [len(images) for images, *_ in epoch] == [5, 5, 5, 1]
        assert Counter(category for *_, categories in epoch for category in categories) == expected
        assert sum(labels.sum().item() for _, _, labels, _ in epoch) == 12
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(*epochs, strict=True))


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_masks_lie_where_the_anomalous_parts_of_images_and_mosaics_are(originals, mosaic):
    loader = Loader(originals, (64, 64), TrainConfig(batch_size=8, mosaic=mosaic), [])
    for step in range(4):
        images, masks, labels, categories = loader.batch(step)
        white = images.min(axis=-1) > 127
        assert np.array_equal(white, masks.numpy() > 0)
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
        assert labels.tolist() == [int(original.any()) for original in white]
        for image, category in zip(images, categories, strict=True):
            other = {"red": 2, "blue": 0}[category]
            assert not ((image[..., other] > 50) & (image.min(axis=-1) < 50)).any()  # nothing of the other category


def test_a_mosaic_is_four_small_images(originals):
    size, config = (48, 80), TrainConfig(batch_size=16, mosaic=1.0)
    images, masks, *_ = Loader(originals, size, config, []).batch(0)
    assert images.shape == (16, *size, 3)
    kinds = Counter()
    for mask in masks.numpy() > 0:
        for tile in (mask[:24, :40], mask[:24, 40:], mask[24:, :40], mask[24:, 40:]):
            left, top = np.zeros((24, 40), bool), np.zeros((24, 40), bool)
            left[:, :20], top[:12] = True, True
            known = {"none": ~(left | ~left), "all": left | ~left, "left": left, "top": top}
            kinds[next(name for name, shape in known.items() if np.array_equal(tile, shape))] += 1
    assert min(kinds[name] for name in ("none", "all", "left", "top")) > 4


def test_the_share_of_mosaics_is_what_was_asked_for(originals):
    """Whole images have one white part at most; a quarter that differs from the rest tells a mosaic."""
    share = {}
    for mosaic in (0.0, 0.2, 1.0):
        loader = Loader(originals, (64, 64), TrainConfig(batch_size=16, mosaic=mosaic), [])
        plain = {np.asarray(Image.open(sample.image_path)).tobytes() for sample in originals}
        images = np.concatenate([loader.batch(step)[0] for step in range(30)])
        share[mosaic] = np.mean([image.tobytes() not in plain for image in images])
    assert share[0.0] == 0
    assert 0.1 < share[0.2] < 0.25
    assert share[1.0] > 0.8


def test_a_batch_depends_on_seed_and_step_alone(originals):
    config = TrainConfig(batch_size=4, mosaic=0.5, seed=3)
    used, fresh = (Loader(originals, (64, 64), config, []) for _ in range(2))
    for step in range(6):
        used.batch(step)
    assert np.array_equal(used.batch(2)[0], fresh.batch(2)[0])
    other = Loader(originals, (64, 64), replace(config, seed=4), [])
    assert not np.array_equal(other.batch(2)[0], fresh.batch(2)[0])


# ---------------------------------------------------------------------------------------------------------- the loop


def test_the_loss_falls(samples, tmp_path):
    config = TrainConfig(epochs=5, batch_size=4, mosaic=0.0, learning_rate=2e-3)
    result = train(tiny_encoder(), samples, config, tmp_path / "w.safetensors")
    assert len(result.losses) == 5
    assert result.losses[-1] < 0.85 * result.losses[0]


def test_training_changes_all_that_is_trained_and_nothing_of_the_backbone(samples, tmp_path):
    encoder = tiny_encoder()
    fingerprint, before = encoder.network.backbone.fingerprint(), trained_tensors(tiny_encoder().network)
    train(encoder, samples, CONFIG, tmp_path / "w.safetensors")
    after = trained_tensors(encoder.network)
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert encoder.network.backbone.fingerprint() == fingerprint
    assert encoder.trained
    assert not encoder.network.training


class StoppedError(Exception):
    pass


def stop_after(step: int):
    def report(label: str, done: int, total: int) -> None:
        if label.startswith("train") and done == step:
            raise StoppedError

    return report


@pytest.mark.parametrize("step", [3, 5, 6])
def test_a_stopped_run_that_goes_on_ends_as_one_that_wasnt_stopped(samples, tmp_path, step):
    whole, stopped = tiny_encoder(), tiny_encoder()
    expected = train(whole, samples, CONFIG, tmp_path / "whole.safetensors")
    out, steps = tmp_path / "stopped.safetensors", []
    with pytest.raises(StoppedError):
        train(stopped, samples, CONFIG, out, stop_after(step))
    assert not out.exists()
    torch.manual_seed(99)
    resumed = tiny_encoder()
    result = train(resumed, samples, CONFIG, out, lambda label, done, total: steps.append((label[:5], done)))
    assert [done for label, done in steps if label == "train"] == list(range(step // 3 * 3 + 1, 7))
    left, right = trained_tensors(whole.network), trained_tensors(resumed.network)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert (result.losses, result.before, result.after) == (expected.losses, expected.before, expected.after)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.safetensors", "whole.safetensors"]


def test_a_run_stopped_twice_ends_the_same(samples, tmp_path):
    whole, out = tiny_encoder(), tmp_path / "w.safetensors"
    train(whole, samples, CONFIG, tmp_path / "whole.safetensors")
    for step in (4, 6):
        with pytest.raises(StoppedError):
            train(tiny_encoder(), samples, CONFIG, out, stop_after(step))
    resumed = tiny_encoder()
    train(resumed, samples, CONFIG, out)
    left, right = trained_tensors(whole.network), trained_tensors(resumed.network)
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("option", [{"seed": 1}, {"mosaic": 0.0}, {"learning_rate": 1e-2}, {"weight_decay": 0.0}])
def test_each_option_of_training_changes_the_result(samples, tmp_path, option):
    plain, changed = tiny_encoder(), tiny_encoder()
    config = replace(CONFIG, epochs=1, protocol="paper")
    train(plain, samples, config, tmp_path / "a.safetensors")
    train(changed, samples, replace(config, **option), tmp_path / "b.safetensors")
    left, right = trained_tensors(plain.network), trained_tensors(changed.network)
    assert not all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("option", [{"seed": 1}, {"epochs": 3}, {"batch_size": 2}, {"learning_rate": 1e-2}])
def test_a_checkpoint_of_other_settings_is_refused(samples, tmp_path, option):
    out = tmp_path / "w.safetensors"
    with pytest.raises(StoppedError):
        train(tiny_encoder(), samples, CONFIG, out, stop_after(3))
    with pytest.raises(InputError, match=r"w\.safetensors\.checkpoint is the checkpoint of a run with other settings"):
        train(tiny_encoder(), samples, replace(CONFIG, **option), out)


def test_a_checkpoint_of_another_number_of_images_or_backbone_is_refused(samples, tmp_path):
    out = tmp_path / "w.safetensors"
    with pytest.raises(StoppedError):
        train(tiny_encoder(), samples, CONFIG, out, stop_after(3))
    with pytest.raises(InputError, match="other settings or images"):
        train(tiny_encoder(), samples[:-2], CONFIG, out)
    network = SowaNetwork(Backbone(tiny_clip(seed=1), "tiny"), MODEL)
    other = TorchEncoder(network, trained=False, settings=Settings("cpu"))
    with pytest.raises(InputError, match="other settings or images"):
        train(other, samples, CONFIG, out)


@pytest.mark.parametrize("what", ["window size", "temperature", "image size", "images"])
def test_a_checkpoint_of_another_network_or_of_other_images_is_refused(samples, tmp_path, what):
    """As many images and weights of the same shapes, yet another run."""
    out, others, encoder = tmp_path / "w.safetensors", samples, tiny_encoder()
    with pytest.raises(StoppedError):
        train(tiny_encoder(), samples, CONFIG, out, stop_after(3))
    if what == "window size":
        encoder = tiny_encoder(replace(MODEL, adapter=AdapterConfig(window_size=2)))
    elif what == "temperature":
        encoder = tiny_encoder(replace(MODEL, temperature=1.0))
    elif what == "image size":
        encoder.windows.image_size = (96, 96)
    else:
        others = [replace(sample, category="capsule" if sample.category == "wood" else "wood") for sample in samples]
    with pytest.raises(InputError, match="other settings or images"):
        train(encoder, others, CONFIG, out)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_broken_checkpoint_is_refused(samples, tmp_path, content):
    (tmp_path / "w.safetensors.checkpoint").write_bytes(content)
    with pytest.raises(InputError, match=r"w\.safetensors\.checkpoint"):
        train(tiny_encoder(), samples, CONFIG, tmp_path / "w.safetensors")


def test_a_loss_that_is_no_number_ends_training_and_names_the_step(samples, tmp_path):
    encoder, out = tiny_encoder(), tmp_path / "w.safetensors"
    torch.nn.init.constant_(encoder.network.prompts.context_normal, float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1, .* lower --learning-rate \(it is 0\.001\)"):
        train(encoder, samples, replace(CONFIG, protocol="paper"), out)
    assert not out.exists()


def test_a_learning_rate_far_too_high_ends_training_before_anything_is_saved(samples, tmp_path):
    config = replace(CONFIG, protocol="paper", learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"(a weight is no finite number|the loss is nan) at step \d+"):
        train(tiny_encoder(), samples, config, tmp_path / "w.safetensors")


def test_after_a_bad_step_the_checkpoint_still_holds_the_last_good_state(samples, tmp_path):
    encoder, out = tiny_encoder(), tmp_path / "w.safetensors"

    def poison(label: str, done: int, total: int) -> None:
        if label.startswith("train") and done == 4:
            torch.nn.init.constant_(encoder.network.prompts.context_normal, float("nan"))

    with pytest.raises(
        TrainingError, match=r"at step 5, .*w\.safetensors\.checkpoint, which holds the last good state"
    ):
        train(encoder, samples, CONFIG, out, poison)
    whole, resumed = tiny_encoder(), tiny_encoder()
    train(resumed, samples, CONFIG, out)
    train(whole, samples, CONFIG, tmp_path / "whole.safetensors")
    assert torch.equal(resumed.network.prompts.context_normal, whole.network.prompts.context_normal)


# --------------------------------------------------------------------------------------------------------- its output


def test_the_weights_file_gives_the_same_predictions(samples, tmp_path, tiny_backbone):
    settings = Settings("cpu", category="capsule")
    encoder = TorchEncoder.from_pretrained(tiny_backbone, config=MODEL, settings=settings)
    result = train(encoder, samples, replace(CONFIG, epochs=1), tmp_path / "w.safetensors")
    loaded = Sowa.from_pretrained(str(result.weights), settings=settings)
    own = Sowa(encoder)
    images = [sample.image_path for sample in samples[:3]]
    for ours, theirs in zip(own.predict(images), loaded.predict(images), strict=True):
        assert ours.raw_score == theirs.raw_score
        assert np.array_equal(ours.anomaly_map, theirs.anomaly_map)


def test_the_weights_file_says_how_it_was_made(samples, tmp_path):
    result = train(tiny_encoder(), samples, CONFIG, tmp_path / "w.safetensors")
    kind, metadata = read_metadata(result.weights)
    assert kind == "sowa-weights"
    assert metadata["train"]["epochs"] == 2
    assert metadata["train"]["protocol"] == "held-out"
    assert (metadata["before"], metadata["after"]) == (result.before, result.after)
    assert metadata["losses"] == result.losses


def test_held_out_images_are_judged_before_and_after(samples, tmp_path):
    labels = []
    result = train(
        tiny_encoder(), samples, CONFIG, tmp_path / "w.safetensors", lambda label, *_: labels.append(label[:5])
    )
    assert labels[0] == labels[-1] == "valid"
    assert "train" in labels
    assert result.before.keys() == result.after.keys()
    assert {"image_AUROC", "pixel_AUROC"} <= result.before.keys()
    assert result.before != result.after


def test_the_paper_protocol_validates_on_nothing(samples, tmp_path):
    labels = []
    config = replace(CONFIG, epochs=1, protocol="paper")
    result = train(
        tiny_encoder(), samples, config, tmp_path / "w.safetensors", lambda label, *_: labels.append(label[:5])
    )
    assert result.before == result.after == {}
    assert set(labels) == {"train"}
    assert len(labels) == -(-len(samples) // 4)


def test_a_broken_image_is_skipped_and_listed_once(originals, tmp_path):
    broken, no_mask = originals[0], originals[-1]
    broken.image_path.write_bytes(b"no image")
    no_mask.mask_path.unlink()
    config = TrainConfig(epochs=3, batch_size=4, protocol="paper")
    result = train(tiny_encoder(), originals, config, tmp_path / "w.safetensors")
    assert sorted(name for name, _ in result.skipped) == sorted([str(broken.image_path), str(no_mask.image_path)])
    assert all(reason for _, reason in result.skipped)
    assert all(np.isfinite(result.losses))


def test_a_broken_image_among_the_held_out_is_skipped_and_listed(originals, tmp_path):
    config = TrainConfig(epochs=1, batch_size=4)
    broken = hold_out(originals, config)[1][0]
    broken.image_path.write_bytes(b"no image")
    result = train(tiny_encoder(), originals, config, tmp_path / "w.safetensors")
    assert [name for name, _ in result.skipped] == [str(broken.image_path)]


def test_where_no_image_can_be_read_training_is_refused(originals, tmp_path):
    for sample in originals:
        sample.image_path.write_bytes(b"no image")
    with pytest.raises(InputError, match="10 images in a row can't be read; last problem: "):
        train(tiny_encoder(), originals, TrainConfig(protocol="paper"), tmp_path / "w.safetensors")
