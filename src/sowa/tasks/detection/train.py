"""Training of boxes: one visible loop over frozen levels that were encoded once.

A run that was killed goes on where its last checkpoint was, with the same result as a run that wasn't: which images
and views a step sees follows from the seed and the step's number alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sowa.core.config import to_dict
from sowa.core.progress import Report, silent
from sowa.data.boxes import BoxSample, BoxSet
from sowa.data.sampling import draw
from sowa.encoders.devices import autocast
from sowa.errors import InputError, TrainingError
from sowa.model.checkpoint import identity
from sowa.tasks.detection.config import DetectTrainConfig
from sowa.tasks.detection.detector import BoxDetector
from sowa.tasks.detection.evaluate import BoxMetrics, find_all, measure, quiet_from
from sowa.tasks.detection.examples import Examples, check_views, encode_examples
from sowa.tasks.detection.losses import box_losses
from sowa.tasks.detection.queries import all_parts, asked, truth
from sowa.training.checkpoints import load_checkpoint, save_checkpoint

WARMING = 0.1  # share of the steps in which the learning rate rises
COLDEST = 0.01  # part of the learning rate that is left at the end
STEEPEST = 5.0  # norm that a step's gradient is cut to


@dataclass(frozen=True)
class BoxTrainResult:
    """What training gave.

    Attributes:
        weights: The file.
        metrics: On held-out images.
        losses: The mean of each epoch.
        skipped: Images that couldn't be read, and why.
    """

    weights: Path
    metrics: BoxMetrics
    losses: list[float]
    skipped: list[tuple[str, str]]


@dataclass
class _State:
    """What a checkpoint holds beside weights and optimizer."""

    step: int = 0
    loss_sum: float = 0.0
    losses: list[float] = field(default_factory=list)


def train(
    detector: BoxDetector, boxes: BoxSet, config: DetectTrainConfig, out: Path, report: Report = silent
) -> BoxTrainResult:
    """Trains a detector in place, chooses its thresholds on held-out images, and writes it.

    Args:
        detector: That is trained.
        boxes: The images.
        config: How.
        out: The file. Beside it OUT.checkpoint is written every ``config.checkpoint_every`` steps, resumed from where
            it's there, and removed at the end.
        report: Told of the progress.

    Raises:
        InputError: data that can't be trained on, or a checkpoint of another run.
        TrainingError: the loss stops being a number.
    """
    training, held_out = hold_out(boxes, config.held_out, config.seed)
    views = check_views(config.augment, detector.encoder.image_size)
    reference = detector.network.config.reference
    parameters = list(detector.network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    checkpoint, run = out.with_name(out.name + ".checkpoint"), _describe(detector, training, config)
    state = _resume(checkpoint, detector, optimizer, run) if checkpoint.exists() else _State()
    examples = encode_examples(
        detector.encoder, training, views, reference, report=report
    )  # only now: it may take minutes
    detector.network.standardise(examples.views[0].tokens)
    batches = _Batches(examples, detector.names, config)
    total = batches.per_epoch * config.epochs
    while state.step < total:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * pace(state.step, total)
        loss = _loss(detector, batches, state.step)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {state.step + 1}, so training stopped; lower --learning-rate (it "
                f"is {config.learning_rate})"
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, STEEPEST)
        optimizer.step()
        _count(state, loss.item(), batches.per_epoch)
        if state.step % config.checkpoint_every == 0 or state.step == total:
            save_checkpoint(checkpoint, detector.tensors(), optimizer, run, to_dict(state))
        report(f"train, loss {loss.item():.3f}", state.step, total)
    validation = encode_examples(detector.encoder, held_out, reference=reference, report=report)
    names = all_parts(detector.names) if config.phrases else detector.names
    found = find_all(detector, validation, names if config.phrases else None, report)
    metrics = measure(validation, found, names, config.phrases)
    detector.threshold_, detector.metrics_ = metrics.threshold, metrics.to_dict()
    detector.query_threshold_ = quiet_from(validation, found, names) if config.phrases else metrics.threshold
    detector.train_ = {**to_dict(config), "images": len(examples.samples), "images_sha256": sha256(training)}
    detector.save(out)
    checkpoint.unlink(missing_ok=True)
    return BoxTrainResult(out, metrics, state.losses, [*examples.skipped, *validation.skipped])


def hold_out(boxes: BoxSet, share: float, seed: int) -> tuple[list[BoxSample], list[BoxSample]]:
    """Images to train on and images to validate on: the data set's own splits, or drawn where it has none.

    Args:
        boxes: The images.
        share: To validate on, between 0 and 1.
        seed: That draws them.

    Raises:
        InputError: either would be empty, or nothing to train on has a box.
    """
    training = boxes.of("train") or boxes.of("")
    held_out = boxes.of("validation")
    if not held_out:
        drawn = draw(training, len(training), seed)
        count = math.ceil(share * len(drawn))
        training, held_out = drawn[count:], drawn[:count]
    if not held_out or not any(sample.boxes for sample in training):
        raise InputError(
            f"{len(training)} images to train on and {len(held_out)} to validate on; needed are both, and boxes in "
            "those to train on"
        )
    return training, held_out


def shown(boxes: BoxSet, config: DetectTrainConfig) -> tuple[str, ...]:
    """The classes that the images to train on show: no others can be learned.

    Args:
        boxes: The images.
        config: For what is held out.

    Raises:
        InputError: as `hold_out` says.
    """
    training, _ = hold_out(boxes, config.held_out, config.seed)
    there = {label for sample in training for label in sample.labels}
    return tuple(name for name in boxes.names if name in there)


def pace(step: int, total: int) -> float:
    """What the learning rate is multiplied by: a line up, half a cosine down.

    Args:
        step: From 0.
        total: Steps.
    """
    warm = max(1.0, WARMING * total)
    if step < warm:
        return (step + 1) / warm
    return COLDEST + (1 - COLDEST) * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm))) / 2


def sha256(samples: Sequence[BoxSample]) -> str:
    """Of which images these are, by name."""
    return hashlib.sha256("\n".join(sample.image_path.name for sample in samples).encode()).hexdigest()


@dataclass(frozen=True)
class _Batch:
    """Tokens and those of the references, L times (B, P, D); per image boxes (n, 4); ``labels`` (n, C) of ``names``,
    None for the detector's own."""

    tokens: list[Tensor]
    reference: list[Tensor] | None
    boxes: list[Tensor]
    labels: list[Tensor]
    names: tuple[str, ...] | None


class _Batches:
    """The batch of any step, from the seed and the step's number alone."""

    def __init__(self, examples: Examples, names: Sequence[str], config: DetectTrainConfig) -> None:
        self.examples, self.names, self.config = examples, names, config
        self.per_epoch = math.ceil(len(examples.samples) / config.batch_size)
        self.known = all_parts(names) if config.phrases else ()

    def __call__(self, step: int) -> _Batch:
        epoch, place = divmod(step, self.per_epoch)
        count, size, samples = len(self.examples.samples), self.config.batch_size, self.examples.samples
        order = draw(range(count), count, self.config.seed + epoch)
        random = np.random.default_rng([self.config.seed, step])
        picked = [
            (index, self.examples.views[int(random.integers(len(self.examples.views)))])
            for index in order[place * size : (place + 1) * size]
        ]
        labels = [samples[index].labels for index, _ in picked]
        names = asked(labels, self.known, random) if self.config.phrases else None
        levels, beside = range(len(picked[0][1].tokens)), picked[0][1].reference is not None
        return _Batch(
            [torch.stack([view.tokens[level][index] for index, view in picked]).float() for level in levels],
            [
                torch.stack([view.reference[level][index] for index, view in picked if view.reference]).float()
                for level in levels
            ]
            if beside
            else None,
            [view.boxes[index] for index, view in picked],
            [truth(of, names or self.names, self.config.phrases) for of in labels],
            names,
        )


def _loss(detector: BoxDetector, batches: _Batches, step: int) -> Tensor:
    """The loss of a step's batch. Dropout is drawn from the step's number, so that a resumed run goes the same way."""
    batch, network, encoder = batches(step), detector.network.train(), detector.encoder
    device = encoder.device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(batches.config.seed * 1_000_003 + step)
            with autocast(device, encoder.precision):
                tokens = [level.to(device) for level in batch.tokens]
                reference = None if batch.reference is None else [level.to(device) for level in batch.reference]
                found = network(tokens, encoder.grid, encoder.backbone, reference)
                logits = network.classify(found.embedding, network.read(encoder.backbone, batch.names))
    finally:
        network.eval()
    boxes, labels = ([each.to(device) for each in part] for part in (batch.boxes, batch.labels))
    exact = replace(found, boxes=found.boxes.float(), objectness=found.objectness.float())
    return torch.stack(box_losses(exact, logits.float(), boxes, labels)).sum()


def _count(state: _State, loss: float, per_epoch: int) -> None:
    state.step += 1
    state.loss_sum += loss
    if state.step % per_epoch == 0:
        state.losses.append(state.loss_sum / per_epoch)
        state.loss_sum = 0.0


def _describe(detector: BoxDetector, training: Sequence[BoxSample], config: DetectTrainConfig) -> dict[str, Any]:
    """What two runs must share for one to go on where the other was stopped."""
    return {
        "train": to_dict(config),
        "network": to_dict(detector.network.config),
        "backbone": to_dict(identity(detector.encoder.backbone)),
        "image_size": detector.encoder.image_size,
        "names": detector.names,
        "images": sha256(training),
    }


def _resume(path: Path, detector: BoxDetector, optimizer: torch.optim.Optimizer, run: dict[str, Any]) -> _State:
    tensors, found = load_checkpoint(path, optimizer, run)
    detector.fill(tensors, str(path))
    return _State(**found)
