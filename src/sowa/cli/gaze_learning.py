"""``sowa gaze train`` and ``sowa gaze test``: a network learns where people look, and how well it tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sowa.cli.console import Console
from sowa.core.headers import WeightsHeader
from sowa.data.files import expand_source
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.gaze.comparing import Predict, baselines, compare
from sowa.extensions.gaze.fixations import match_images
from sowa.extensions.gaze.learning import Views, Watched, apart, attention_map, learn, watch
from sowa.extensions.gaze.metrics import GazeMetrics
from sowa.extensions.gaze.readers import read_gaze
from sowa.model.checkpoint import identity, save_weights


@dataclass(frozen=True)
class Looked:
    """Where people's fixations are, the images they are on, and how these were shown."""

    fixations: Path
    images: Path
    pixels_per_degree: float
    sigma: float


def watched_images(encoder: TorchEncoder, looked: Looked, batch_size: int, console: Console) -> Views:
    """Reads and encodes the images that people looked at, and says what is left out.

    Raises InputError where there is none.
    """
    gaze = read_gaze(looked.fixations)
    files, unseen = match_images(gaze.images, expand_source(looked.images))
    if not files:
        raise InputError(f"{looked.images} has none of the {len(unseen)} images that {looked.fixations} names")
    with console.progress() as report:
        views = watch(encoder, gaze, files, looked.pixels_per_degree, looked.sigma, batch_size, report)
    console.skipped(views.skipped)
    if unseen:
        console.note(f"{len(unseen)} image(s) aren't in {looked.images}: {', '.join(unseen[:3])}")
    if views.outside:
        console.note(views.outside)
    return views


def learn_to_file(
    encoder: TorchEncoder, looked: Looked, out: Path, held_out: float, seed: int, batch_size: int, console: Console
) -> None:
    """Trains the network's saliency and writes weights like those of ``sowa train``; tells how well it does on images
    that were held out."""
    if not encoder.trained:
        raise InputError("the adapters and prompts aren't trained; use sowa train with --saliency and --gaze")
    views = watched_images(encoder, looked, batch_size, console)
    training, testing = apart(views.watched, held_out, seed)
    before = _compared(encoder, training, testing, looked, console)["the network"]
    with console.progress() as report:
        losses = learn(encoder, training, seed, report)
    found = _compared(encoder, training, testing, looked, console)
    how = {"gaze": {"images": len(training), "seed": seed, "held_out": held_out}}
    backbone = identity(encoder.network.backbone)
    header = WeightsHeader(encoder.network.config, backbone, how, _plain(before), _plain(found["the network"]), losses)
    save_weights(encoder.network, out, header)
    _table({"the network, not learned": before, **found}, console)
    console.say(f"{out} written", event="gaze train", out=str(out), **{n: _plain(m) for n, m in found.items()})


def compare_to_table(encoder: TorchEncoder, looked: Looked, batch_size: int, console: Console) -> None:
    """How well the network's attention tells where people looked, beside the baselines."""
    views = watched_images(encoder, looked, batch_size, console)
    found = _compared(encoder, [], views.watched, looked, console)
    _table(found, console)
    told = {name: _plain(metrics) for name, metrics in found.items()}
    console.say(f"{len(views.watched)} images", event="gaze test", images=len(views.watched), metrics=told)


def _compared(
    encoder: TorchEncoder, training: list[Watched], testing: list[Watched], looked: Looked, console: Console
) -> dict[str, GazeMetrics]:
    saliency = encoder.network.saliency
    assert saliency is not None  # `watch` has seen to it
    network: dict[str, Predict] = {"the network": lambda watched: attention_map(saliency, watched)}
    with console.progress() as report:
        return compare(testing, baselines(training) | network, looked.pixels_per_degree, looked.sigma, report)


def _table(found: dict[str, GazeMetrics], console: Console) -> None:
    names = list(next(iter(found.values())).metrics())
    console.table("where people look", ["", *names], [[name, *_plain(m).values()] for name, m in found.items()])


def _plain(metrics: GazeMetrics) -> dict[str, float | None]:
    return {name: None if score.why else score.value for name, score in metrics.metrics().items()}
