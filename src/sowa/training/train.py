"""Training of adapters and prompts: one visible loop (paper section 4.1, METHOD.md section 5).

A run that was killed goes on where its last checkpoint was, with the same result as a run that wasn't: which images
a step sees and what chance adds to them follows from the seed and the step's number alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.config import TrainConfig, to_dict
from sowa.core.headers import WeightsHeader
from sowa.core.progress import Report, silent
from sowa.core.scoring import judge
from sowa.core.types import ABNORMAL, Sample
from sowa.data import read_image, read_mask_at, resize_image
from sowa.data.sampling import draw
from sowa.detector.detector import Sowa
from sowa.encoders.devices import autocast
from sowa.errors import InputError, TrainingError
from sowa.extensions.gaze.learning import Looking
from sowa.metrics import PixelMetrics, image_metrics
from sowa.model.checkpoint import identity, load_weights, save_weights, trained_tensors
from sowa.training.checkpoints import load_checkpoint, save_checkpoint
from sowa.training.losses import losses

# Image, mask, and whether it's anomalous: a small defect may vanish from the mask when it's shrunk.
_Item = tuple[NDArray[np.uint8], NDArray[np.bool_], int]


@dataclass(frozen=True)
class TrainResult:
    """Where the weights are, the metrics on held-out images before and after, and the mean loss of each epoch."""

    weights: Path
    before: dict[str, float | None]
    after: dict[str, float | None]
    losses: list[float]
    skipped: list[tuple[str, str]]


@dataclass
class _State:
    """What a checkpoint holds beside weights and optimizer."""

    step: int = 0
    before: dict[str, float | None] = field(default_factory=dict)
    loss_sum: float = 0.0
    epoch_losses: list[float] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def count(self, loss: float, per_epoch: int) -> None:
        self.step += 1
        self.loss_sum += loss
        if self.step % per_epoch == 0:
            self.epoch_losses.append(self.loss_sum / per_epoch)
            self.loss_sum = 0.0


def train(
    detector: Sowa,
    samples: Sequence[Sample],
    config: TrainConfig,
    out: Path,
    report: Report = silent,
    looking: Looking | None = None,
) -> TrainResult:
    """Trains the prompts and adapters of ``detector`` in place and writes them to ``out``.

    ``looking`` are images that people looked at; each step then also has the network's saliency learn from them, with
    ``config.gaze_weight``.
    ``out`` with ``.checkpoint`` appended is written every ``config.checkpoint_every`` steps, resumed from where it's
    there, and removed at the end. Raises InputError for data that can't be trained on and for a checkpoint of another
    run, TrainingError where the loss stops being a number.
    """
    training, held_out = hold_out(samples, config)
    detector.forget()  # a bank's calibration doesn't hold for other prompts
    parameters = [each for each in detector.network.trainable().values() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    checkpoint = out.with_name(out.name + ".checkpoint")
    run = _describe_run(detector, training, config, looking)
    state = _resume(checkpoint, detector, optimizer, run) if checkpoint.exists() else _State()
    if state.step == 0:
        state.before = validate(detector, held_out, config.batch_size, state.skipped, report)
    loader = _Loader(training, detector.image_size, config, state.skipped)
    total = loader.steps_per_epoch * config.epochs
    while state.step < total:
        loss = _loss(detector, loader, state.step)
        if looking and detector.network.saliency:
            loss = loss + config.gaze_weight * looking.loss(detector.network.saliency, state.step)
        if not torch.isfinite(loss):
            raise _diverged(loss, state.step, checkpoint, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not all(parameter.isfinite().all() for parameter in parameters):
            raise _diverged(loss, state.step, checkpoint, config)
        state.count(loss.item(), loader.steps_per_epoch)
        if state.step % config.checkpoint_every == 0 or state.step == total:
            save_checkpoint(checkpoint, trained_tensors(detector.network), optimizer, run, to_dict(state))
        report(f"train, loss {loss.item():.3f}", state.step, total)
    detector.trained = True
    after = validate(detector, held_out, config.batch_size, state.skipped, report)
    backbone = identity(detector.network.backbone)
    how = recipe(detector, samples, config)
    header = WeightsHeader(detector.network.config, backbone, how, state.before, after, state.epoch_losses)
    save_weights(detector.network, out, header)
    checkpoint.unlink()
    return TrainResult(out, state.before, after, state.epoch_losses, state.skipped)


def recipe(detector: Sowa, samples: Sequence[Sample], config: TrainConfig) -> dict[str, Any]:
    """What the header of weights says under ``train``: the settings and which images they were trained on."""
    training, _ = hold_out(samples, config)
    images = {"images": len(training), "images_sha256": _sha256(training)}
    return {**to_dict(config), **images, "image_size": list(detector.image_size)}


def _loss(detector: Sowa, loader: _Loader, step: int) -> Tensor:
    """The loss of a step's batch. Dropout is drawn from the step's number, so that a resumed run goes the same way."""
    images, masks, labels, categories = loader.batch(step)
    device, network = detector.device, detector.network.train()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(loader.config.seed * 1_000_003 + step)
            with autocast(device, detector.precision):
                output = network(detector.normalise(images), network.class_index(categories).to(device))
    finally:
        network.eval()
    return losses(output, labels.to(device), masks.to(device)).total


def _diverged(loss: Tensor, step: int, checkpoint: Path, config: TrainConfig) -> TrainingError:
    what = "a weight is no finite number" if torch.isfinite(loss) else f"the loss is {loss.item()}"
    kept = f"remove {checkpoint}, which holds the last good state" if checkpoint.exists() else "nothing was saved yet"
    return TrainingError(
        f"{what} at step {step + 1}, so training stopped; {kept}; lower --learning-rate (it is {config.learning_rate}) "
        "or look for odd images"
    )


def hold_out(samples: Sequence[Sample], config: TrainConfig) -> tuple[list[Sample], list[Sample]]:
    """Images to train on and images to validate on, drawn by category and label so that both hold both kinds.

    The "paper" protocol trains on the whole split "test", as the paper does, and validates on nothing. Raises
    InputError where no anomalous image with a mask is left to train on.
    """
    usable = [s for s in samples if s.label is not None and (s.label != ABNORMAL or s.mask_path)]
    if config.protocol == "paper":
        training, held_out = [sample for sample in usable if sample.split == "test"], []
    else:
        training, held_out = list[Sample](), list[Sample]()
        for kind in dict.fromkeys((sample.category, sample.label) for sample in usable):
            group = [sample for sample in usable if (sample.category, sample.label) == kind]
            drawn = draw(group, len(group), config.seed)
            count = round(config.validation_fraction * len(drawn))
            training, held_out = training + drawn[count:], held_out + drawn[:count]
    if not any(sample.label == ABNORMAL for sample in training):
        raise InputError(
            f"{len(training)} images to train on and none is anomalous with a mask; give a data set with masks"
        )
    return training, held_out


def validate(
    detector: Sowa, samples: Sequence[Sample], batch_size: int, skipped: list[tuple[str, str]], report: Report
) -> dict[str, float | None]:
    """Zero-shot metrics on labelled images; undefined ones are None. Empty without images.

    An image that can't be read is added to ``skipped``.
    """
    if not samples:
        return {}
    pixels, scores, labels = PixelMetrics(), list[float](), list[bool]()
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        read = [(*item, sample) for sample in part if (item := _try_read(sample, detector.image_size, skipped))]
        if read:
            images, masks, found = zip(*read, strict=True)
            categories = [sample.category for sample in found]
            observation = detector.observe(np.stack(images), prompts=True, categories=categories)
            with torch.inference_mode():
                judgement = judge(observation, None, detector.network.config)
            for anomaly_map, mask in zip(judgement.maps.cpu().numpy(), masks, strict=True):
                pixels.update(anomaly_map, mask)
            scores += judgement.raw_scores.tolist()
            labels += [sample.label == ABNORMAL for sample in found]
        report("validate", min(start + batch_size, len(samples)), len(samples))
    metrics = image_metrics(scores, labels).metrics() | pixels.compute().metrics()
    return {name: value.to_json() for name, value in metrics.items()}


class _Loader:
    """The batch of any step, from the seed and the step's number alone."""

    def __init__(
        self, samples: Sequence[Sample], size: tuple[int, int], config: TrainConfig, skipped: list[tuple[str, str]]
    ) -> None:
        self.samples, self.size, self.config, self.skipped = samples, size, config, skipped
        self.steps_per_epoch = -(-len(samples) // config.batch_size)
        self.by_category: dict[str, list[Sample]] = {}
        for sample in samples:
            self.by_category.setdefault(sample.category, []).append(sample)

    def batch(self, step: int) -> tuple[NDArray[np.uint8], Tensor, Tensor, list[str]]:
        """Images (B, H, W, 3) uint8, masks (B, H, W) 0 or 1, labels (B,) 0 or 1, categories."""
        size = self.config.batch_size
        epoch, place = divmod(step, self.steps_per_epoch)
        order = draw(range(len(self.samples)), len(self.samples), self.config.seed + epoch)
        random = np.random.default_rng([self.config.seed, step])
        samples = [self.samples[index] for index in order[place * size : (place + 1) * size]]
        items = [self._item(sample, random) for sample in samples]
        images, masks, labels = zip(*items, strict=True)
        categories = [sample.category for sample in samples]
        return np.stack(images), torch.from_numpy(np.stack(masks)).float(), torch.tensor(labels), categories

    def _item(self, sample: Sample, random: np.random.Generator) -> _Item:
        if random.random() >= self.config.mosaic:
            return self._readable(sample, self.size, random)
        # A mosaic of 2 x 2 images of one category, each drawn anew (METHOD.md section 5).
        top, left = self.size[0] // 2, self.size[1] // 2
        image, mask, label = np.zeros((*self.size, 3), np.uint8), np.zeros(self.size, bool), 0
        for rows in (slice(0, top), slice(top, None)):
            for columns in (slice(0, left), slice(left, None)):
                tile = mask[rows, columns]
                chosen = self._any_of(sample.category, random)
                size = (tile.shape[0], tile.shape[1])
                image[rows, columns], tile[:], anomalous = self._readable(chosen, size, random)
                label |= anomalous
        return image, mask, label

    def _readable(self, sample: Sample, size: tuple[int, int], random: np.random.Generator) -> _Item:
        """The image, or another one of its category in place of a broken one."""
        for _ in range(10):
            item = _try_read(sample, size, self.skipped)
            if item:
                return (*item, int(sample.label == ABNORMAL))
            sample = self._any_of(sample.category, random)
        raise InputError(f"ten images in a row can't be read; last problem: {self.skipped[-1][1]}")

    def _any_of(self, category: str, random: np.random.Generator) -> Sample:
        group = self.by_category[category]
        return group[int(random.integers(len(group)))]


def _try_read(
    sample: Sample, size: tuple[int, int], skipped: list[tuple[str, str]]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]] | None:
    """Image and mask at ``size``; None where one is broken, which is added to ``skipped`` once."""
    try:
        image = read_image(sample.image_path)
        return resize_image(image, size), read_mask_at(sample.mask_path, size, (image.shape[0], image.shape[1]))
    except InputError as error:
        reason = (str(sample.image_path), str(error))
        if reason not in skipped:
            skipped.append(reason)
        return None


def _describe_run(
    detector: Sowa, training: Sequence[Sample], config: TrainConfig, looking: Looking | None
) -> dict[str, Any]:
    """What two runs must share for one to go on where the other was stopped."""
    return {
        "train": to_dict(config),
        "network": to_dict(detector.network.config),
        "backbone": to_dict(identity(detector.network.backbone)),
        "image_size": detector.image_size,
        "images": _sha256(training),
        "gaze": hashlib.sha256(looking.looked_at.numpy().tobytes()).hexdigest() if looking else None,
    }


def _sha256(training: Sequence[Sample]) -> str:
    images = "\n".join(f"{sample.image_path} {sample.mask_path} {sample.category}" for sample in training)
    return hashlib.sha256(images.encode()).hexdigest()


def _resume(path: Path, detector: Sowa, optimizer: torch.optim.Optimizer, run: dict[str, Any]) -> _State:
    tensors, found = load_checkpoint(path, optimizer, run)
    load_weights(detector.network, tensors, str(path))
    state = _State(**found)
    state.skipped = [(path, why) for path, why in state.skipped]
    return state
