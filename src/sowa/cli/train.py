"""``sowa train``: adapters and prompts learn from images with masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from sowa.cli.console import Console
from sowa.cli.gaze import Looked, watched_images
from sowa.cli.options import (
    ADVANCED,
    MACHINE,
    PIXELS_PER_DEGREE,
    Backbone,
    Category,
    Dataset,
    ImageSize,
    MachineFlags,
    PixelsPerDegree,
    Root,
    WeightsOut,
    basic,
)
from sowa.core.config import AdapterConfig, ModelConfig, PromptConfig, SaliencyConfig
from sowa.errors import InputError
from sowa.training.config import TrainConfig

if TYPE_CHECKING:
    from sowa.encoders.torch_encoder import TorchEncoder
    from sowa.extensions.gaze.learning import GazeLoss


def train(
    *,
    dataset: Dataset,
    root: Root,
    out: WeightsOut,
    category: Category = None,
    image_size: ImageSize = None,
    saliency: Annotated[str | None, basic("what sees what stands out: backbone, or a CNN such as resnet18")] = None,
    gaze: Annotated[Path | None, basic("where people looked, as for sowa gaze train; saliency learns it too")] = None,
    gaze_images: Annotated[Path | None, basic("folder of the images that they looked at")] = None,
    pixels_per_degree: PixelsPerDegree = PIXELS_PER_DEGREE,
    backbone: Backbone = "mini",
    config: Annotated[TrainConfig, Parameter(name="*", group=ADVANCED)] = TrainConfig(),  # noqa: B008 - frozen
    machine: MachineFlags = MACHINE,
    adapter: Annotated[AdapterConfig, Parameter(group=ADVANCED)] = AdapterConfig(),  # noqa: B008 - frozen
    prompt: Annotated[PromptConfig, Parameter(group=ADVANCED)] = PromptConfig(),  # noqa: B008 - frozen
) -> None:
    """Train adapters and prompts on images with masks. Killed runs go on from their last checkpoint.

    All labelled images are used, of the test split too, but for those held out to validate on.
    So evaluate on another data set, as the paper does.
    """
    from sowa.data import load
    from sowa.encoders.torch_encoder import TorchEncoder
    from sowa.training.train import train as run

    console, looked = Console(), _looked(saliency, gaze, gaze_images, pixels_per_degree)
    samples = load(dataset, root, category)
    model = ModelConfig(adapter=adapter, prompt=prompt, saliency=_saliency(saliency))
    encoder = TorchEncoder.from_pretrained(backbone, config=model, settings=machine.settings(image_size))
    auxiliary = _gaze_loss(encoder, looked, config, console) if looked else None
    with console.progress() as report:
        result = run(encoder, samples, config, out, report, auxiliary)
    console.skipped(result.skipped)
    console.table(
        "held-out images, zero-shot",
        ["", *result.after],
        [["untrained", *result.before.values()], ["trained", *result.after.values()]] if result.after else [],
    )
    console.say(f"{out} written", event="train", out=str(out), before=result.before, after=result.after)


def _looked(saliency: str | None, gaze: Path | None, images: Path | None, pixels_per_degree: float) -> Looked | None:
    """Where people looked, if that is to be learned. Raises InputError where only some of the flags are given."""
    if images is not None and gaze is None:
        raise InputError("--gaze-images needs --gaze, which says where people looked on them")
    if gaze is None:
        return None
    if saliency is None or images is None:
        raise InputError("--gaze needs --saliency, which learns from it, and --gaze-images")
    return Looked(gaze, images, pixels_per_degree, 1.0)


def _saliency(early: str | None) -> SaliencyConfig | None:
    if early is None:
        return None
    return SaliencyConfig(cnn="" if early == "backbone" else early)


def _gaze_loss(encoder: TorchEncoder, looked: Looked, config: TrainConfig, console: Console) -> GazeLoss:
    from sowa.extensions.gaze.learning import GazeLoss

    return GazeLoss(watched_images(encoder, looked, config.batch_size, console).watched, config.seed)
