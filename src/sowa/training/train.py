"""Training of adapters and prompts: one visible loop (paper section 4.1, METHOD.md section 5).

A run that was killed goes on where its last checkpoint was, with the same result as a run that wasn't: which images
a step sees and what chance adds to them follows from the seed and the step's number alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sowa.core.config import to_dict
from sowa.core.headers import WeightsHeader
from sowa.core.progress import Report, silent
from sowa.core.scoring import judge_zero_shot
from sowa.core.types import ABNORMAL, Sample
from sowa.encoders.devices import autocast
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import TrainingError
from sowa.metrics import PixelMetrics, image_metrics
from sowa.model.checkpoint import identity, load_weights, save_weights, trained_tensors
from sowa.model.sowa import SowaNetwork
from sowa.training.checkpoints import load_checkpoint, save_checkpoint
from sowa.training.config import TrainConfig
from sowa.training.data import Loader, hold_out, try_read
from sowa.training.losses import losses


class AuxiliaryLoss(Protocol):
    """What may be learned beside the method's own losses."""

    @property
    def sha256(self) -> str:
        """Of what it is learned from; two runs must share it for one to go on where the other was stopped."""
        ...

    def __call__(self, network: SowaNetwork, step: int) -> Tensor:
        """A scalar that depends on the network's weights and the step's number alone."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """What training gave.

    Attributes:
        weights: The file.
        before: Metrics on held-out images before, in 0..1, undefined ones None; empty without such images.
        after: The same afterwards.
        losses: The mean of each epoch.
        skipped: Images that couldn't be read, and why.
    """

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


@dataclass(frozen=True)
class _Run:
    """Where a run's state is kept, and what two runs must share for one to go on where the other was stopped."""

    checkpoint: Path
    description: dict[str, Any]

    def save(self, encoder: TorchEncoder, optimizer: torch.optim.Optimizer, state: _State) -> None:
        save_checkpoint(self.checkpoint, trained_tensors(encoder.network), optimizer, self.description, to_dict(state))

    def resume(self, encoder: TorchEncoder, optimizer: torch.optim.Optimizer) -> _State:
        tensors, found = load_checkpoint(self.checkpoint, optimizer, self.description)
        load_weights(encoder.network, tensors, str(self.checkpoint))
        state = _State(**found)
        state.skipped = [(path, why) for path, why in state.skipped]
        return state


def train(
    encoder: TorchEncoder,
    samples: Sequence[Sample],
    config: TrainConfig,
    out: Path,
    report: Report = silent,
    auxiliary: AuxiliaryLoss | None = None,
) -> TrainResult:
    """Trains the prompts and adapters of an encoder in place and writes them.

    Args:
        encoder: Whose network is trained.
        samples: Labelled images; some are held out, see `sowa.training.data.hold_out`.
        config: How.
        out: The file of the weights. Beside it OUT.checkpoint is written every ``config.checkpoint_every`` steps,
            resumed from where it's there, and removed at the end.
        report: Told of the progress.
        auxiliary: Is learned too, with the weight ``config.gaze_weight``.

    Raises:
        InputError: the data can't be trained on, or the checkpoint is of another run.
        TrainingError: the loss or a weight stops being a number.
    """
    training, held_out = hold_out(samples, config)
    optimizer = torch.optim.AdamW(_parameters(encoder), lr=config.learning_rate, weight_decay=config.weight_decay)
    run = _Run(out.with_name(out.name + ".checkpoint"), _describe_run(encoder, training, config, auxiliary))
    state = run.resume(encoder, optimizer) if run.checkpoint.exists() else _State()
    if state.step == 0:
        state.before = validate(encoder, held_out, config.batch_size, state.skipped, report)
    loader = Loader(training, encoder.image_size, config, state.skipped)
    total = loader.steps_per_epoch * config.epochs
    while state.step < total:
        loss = _step(encoder, loader, optimizer, state.step, run.checkpoint, auxiliary)
        state.count(loss, loader.steps_per_epoch)
        if state.step % config.checkpoint_every == 0 or state.step == total:
            run.save(encoder, optimizer, state)
        report(f"train, loss {loss:.3f}", state.step, total)
    encoder.trained = True
    after = validate(encoder, held_out, config.batch_size, state.skipped, report)
    how = recipe(encoder, samples, config)
    header = WeightsHeader(encoder.config, encoder.identity, how, state.before, after, state.epoch_losses)
    save_weights(encoder.network, out, header)
    run.checkpoint.unlink()
    return TrainResult(out, state.before, after, state.epoch_losses, state.skipped)


def recipe(encoder: TorchEncoder, samples: Sequence[Sample], config: TrainConfig) -> dict[str, Any]:
    """What the header of weights says under ``train``: the settings and which images they were trained on.

    Args:
        encoder: Whose network is trained.
        samples: As `train` takes them.
        config: How.
    """
    training, _ = hold_out(samples, config)
    images = {"images": len(training), "images_sha256": _sha256(training)}
    return {**to_dict(config), **images, "image_size": list(encoder.image_size)}


def _parameters(encoder: TorchEncoder) -> list[torch.nn.Parameter]:
    return [each for each in encoder.network.trainable().values() if each.requires_grad]


def _step(
    encoder: TorchEncoder,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    step: int,
    checkpoint: Path,
    auxiliary: AuxiliaryLoss | None,
) -> float:
    """One step of the optimizer; returns its loss. Raises TrainingError where that or a weight is no number."""
    loss = _loss(encoder, loader, step)
    if auxiliary:
        loss = loss + loader.config.gaze_weight * auxiliary(encoder.network, step)
    if not torch.isfinite(loss):
        raise _diverged(loss, step, checkpoint, loader.config)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if not all(parameter.isfinite().all() for parameter in _parameters(encoder)):
        raise _diverged(loss, step, checkpoint, loader.config)
    return loss.item()


def _loss(encoder: TorchEncoder, loader: Loader, step: int) -> Tensor:
    """The loss of a step's batch. Dropout is drawn from the step's number, so that a resumed run goes the same way."""
    images, masks, labels, categories = loader.batch(step)
    device, network = encoder.device, encoder.network.train()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(loader.config.seed * 1_000_003 + step)
            with autocast(device, encoder.precision):
                output = network(encoder.normalise(images), network.class_index(categories).to(device))
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


def validate(
    encoder: TorchEncoder, samples: Sequence[Sample], batch_size: int, skipped: list[tuple[str, str]], report: Report
) -> dict[str, float | None]:
    """Zero-shot metrics on labelled images, in 0..1; undefined ones are None. Empty without images.

    Args:
        encoder: Whose network is judged.
        samples: Labelled images.
        batch_size: So many are encoded at once.
        skipped: Takes the name of every image that can't be read, and why.
        report: Told of the progress.
    """
    if not samples:
        return {}
    pixels, scores, labels = PixelMetrics(), list[float](), list[bool]()
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        read = [(*item, sample) for sample in part if (item := try_read(sample, encoder.image_size, skipped))]
        if read:
            images, masks, found = zip(*read, strict=True)
            categories = [sample.category for sample in found]
            features = encoder.encode(np.stack(images), prompts=True, categories=categories)
            judgement = judge_zero_shot(features, encoder.config)
            for anomaly_map, mask in zip(judgement.maps.cpu().numpy(), masks, strict=True):
                pixels.update(anomaly_map, mask)
            scores += judgement.raw_scores.tolist()
            labels += [sample.label == ABNORMAL for sample in found]
        report("validate", min(start + batch_size, len(samples)), len(samples))
    metrics = image_metrics(scores, labels).metrics() | pixels.compute().metrics()
    return {name: value.to_json() for name, value in metrics.items()}


def _describe_run(
    encoder: TorchEncoder, training: Sequence[Sample], config: TrainConfig, auxiliary: AuxiliaryLoss | None
) -> dict[str, Any]:
    """What two runs must share for one to go on where the other was stopped."""
    return {
        "train": to_dict(config),
        "network": to_dict(encoder.network.config),
        "backbone": to_dict(identity(encoder.network.backbone)),
        "image_size": encoder.image_size,
        "images": _sha256(training),
        "gaze": auxiliary.sha256 if auxiliary else None,
    }


def _sha256(training: Sequence[Sample]) -> str:
    images = "\n".join(f"{sample.image_path} {sample.mask_path} {sample.category}" for sample in training)
    return hashlib.sha256(images.encode()).hexdigest()
