"""Has a network's saliency learn where people look.

The network's attention is the softmax of its saliency over patches. It is compared with the density of people's
fixations on the same grid by the three measures that saliency models are trained with (Cornia et al., 2018, section
3.4): KL divergence, less correlation, less normalised scanpath saliency.

Shapes: B images, H x W pixels, P patches on a grid (h, w), C channels, E width of early features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sowa.core.maps import upsample
from sowa.core.progress import Report, silent
from sowa.data.batches import none_readable, read_batches
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.gaze.density import SIGMA_DEGREES, Density, density_of, normalised, pool
from sowa.extensions.gaze.fixations import Fixation, Gaze, Viewing, keep_inside
from sowa.model.saliency import Saliency
from sowa.model.sowa import SowaNetwork

CORRELATION, SCANPATH = 0.2, 0.1  # of the divergence, as in Cornia et al.
STEPS, BATCH, RATE, DECAY = 400, 32, 0.02, 0.02


@dataclass(frozen=True)
class Watched:
    """An image that people looked at.

    Attributes:
        name: Its own.
        channels: (C, P) as of `Saliency.read`.
        early: (P, E) likewise.
        grid: (h, w) with h * w = P.
        size: The image's (H, W) in pixels.
        viewings: Everybody's, inside its size; none where only their density is known.
        density: (H, W), summing to 1.
    """

    name: str
    channels: Tensor
    early: Tensor
    grid: tuple[int, int]
    size: tuple[int, int]
    viewings: tuple[Viewing, ...]
    density: Density

    @property
    def fixations(self) -> list[Fixation]:
        """Everybody's."""
        return [each for viewing in self.viewings for each in viewing.fixations]

    @property
    def looked_at(self) -> Tensor:
        """The share of each patch (P,)."""
        return torch.from_numpy(pool(self.density, self.grid).ravel()).float()


@dataclass(frozen=True)
class Views:
    """What `watch` found.

    Attributes:
        watched: Images that people looked at.
        skipped: What couldn't be read, and why.
        outside: How many fixations lay outside of their image, in words.
    """

    watched: list[Watched]
    skipped: list[tuple[str, str]]
    outside: str


@torch.no_grad()
def watch(
    encoder: TorchEncoder,
    gaze: Gaze,
    files: Mapping[str, Path],
    pixels_per_degree: float,
    sigma: float = SIGMA_DEGREES,
    batch_size: int = 8,
    report: Report = silent,
) -> Views:
    """Encodes images that people looked at.

    Args:
        encoder: That reads them.
        gaze: What is known of people's looking.
        files: The images, by the names that ``gaze`` has for them.
        pixels_per_degree: As in `sowa.extensions.gaze.density.fixation_density`.
        sigma: Likewise.
        batch_size: So many are encoded at once.
        report: Told of the progress.

    Raises:
        InputError: the network has no saliency, none of the images can be read, or fixations are no pixels.
    """
    saliency = _saliency(encoder)
    wanted = [ImageSource(name, path) for name, path in files.items()]
    skipped: list[tuple[str, str]] = []
    read: list[tuple[str, Tensor, Tensor, tuple[int, int]]] = []
    backbone, grid = encoder.network.backbone, encoder.grid
    for batch in read_batches(wanted, encoder.image_size, batch_size, skipped):
        pixels = encoder.normalise(batch.images)
        patches, _ = backbone.patches(pixels)
        seen = saliency.read(backbone.unnormalise(pixels).float(), patches[0].float(), grid)
        names = (image.name for image in batch.sources)
        read += zip(names, seen[0].cpu(), seen[1].cpu(), batch.sizes, strict=True)
        report("encode images", len(read), len(wanted))
    if not read:
        raise none_readable(len(wanted), skipped)
    inside = keep_inside(_of(gaze, [name for name, *_ in read]), {name: size for name, *_, size in read})
    found = []
    for name, channels, early, size in read:
        viewings = tuple(viewing for viewing in inside.gaze.by_image.get(name, ()) if viewing.fixations)
        if viewings or name in gaze.densities:
            density = density_of(inside.gaze, name, size, pixels_per_degree, sigma)
            found.append(Watched(name, channels, early, grid, size, viewings, density))
    if not found:
        raise InputError(f"nobody looked at any of the {len(read)} images; are these the right ones?")
    return Views(found, skipped, inside.sentence)


def gaze_loss(saliency_BP: Tensor, looked_at_BP: Tensor) -> Tensor:
    """How far the attention of saliency is from where people looked: a scalar.

    Args:
        saliency_BP: (B, P).
        looked_at_BP: Shares (B, P) that sum to 1.
    """
    attention_BP = saliency_BP.softmax(dim=1)
    known_BP = looked_at_BP.clamp(min=1e-12)
    divergence = (looked_at_BP * (known_BP.log() - saliency_BP.log_softmax(dim=1))).sum(dim=1)
    scores_BP, human_BP = _standard_scores(attention_BP), _standard_scores(looked_at_BP)
    correlation = (scores_BP * human_BP).mean(dim=1)
    scanpath = (looked_at_BP * scores_BP).sum(dim=1)
    return (divergence - CORRELATION * correlation - SCANPATH * scanpath).mean()


def _standard_scores(values_BP: Tensor) -> Tensor:
    centred = values_BP - values_BP.mean(dim=1, keepdim=True)
    return centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-12)


class GazeLoss:
    """The gaze part of a training step: images that people looked at, drawn by the step's number.

    It is a `sowa.training.train.AuxiliaryLoss`.

    Args:
        watched: The images.
        seed: Of the draws.
        batch_size: So many in each step.
    """

    def __init__(self, watched: Sequence[Watched], seed: int, batch_size: int = BATCH) -> None:
        self.seed, self.batch_size = seed, min(batch_size, len(watched))
        self.grid = watched[0].grid
        self.channels = torch.stack([each.channels for each in watched])
        self.early = torch.stack([each.early for each in watched])
        self.looked_at = torch.stack([each.looked_at for each in watched])

    @property
    def sha256(self) -> str:
        """Of where people looked."""
        return hashlib.sha256(self.looked_at.numpy().tobytes()).hexdigest()

    def __call__(self, network: SowaNetwork, step: int) -> Tensor:
        """`of_saliency` of a network that has it."""
        assert network.saliency is not None
        return self.of_saliency(network.saliency, step)

    def of_saliency(self, saliency: Saliency, step: int) -> Tensor:
        """`gaze_loss` of the step's images.

        Args:
            saliency: That is learned.
            step: Its number draws the images.
        """
        chosen = np.random.default_rng([self.seed, step]).permutation(len(self.channels))[: self.batch_size]
        device = saliency.weights.device
        channels, early, looked_at = (
            values[chosen].to(device) for values in (self.channels, self.early, self.looked_at)
        )
        return gaze_loss(saliency.weigh(channels, early, self.grid), looked_at)


def learn(encoder: TorchEncoder, watched: Sequence[Watched], seed: int = 0, report: Report = silent) -> list[float]:
    """Trains the saliency of a network alone, in place, and returns the loss of each step.

    Args:
        encoder: Whose network has saliency.
        watched: The images.
        seed: That draws them for each step.
        report: Told of the progress.

    Raises:
        InputError: the network has no saliency.
    """
    saliency, gaze = _saliency(encoder), GazeLoss(watched, seed)
    learned = [saliency.weights, saliency.centre, saliency.direction]
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses = []
    for step in range(STEPS):
        loss = gaze.of_saliency(saliency, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        report("learn gaze", step + 1, STEPS)
    return losses


def apart(watched: Sequence[Watched], fraction: float, seed: int) -> tuple[list[Watched], list[Watched]]:
    """Images to learn from and images to test on.

    Args:
        watched: All of them.
        fraction: Share to test on, between 0 and 1.
        seed: That draws them.

    Raises:
        InputError: a part is empty.
    """
    drawn = draw(list(watched), len(watched), seed)
    count = math.ceil(fraction * len(drawn)) if 0 < fraction < 1 else 0
    if not 0 < count < len(drawn):
        raise InputError(
            f"{len(drawn)} image(s) that people looked at, of which {fraction:g} are held out, leave nothing to "
            "learn from or to test on; give more"
        )
    return drawn[count:], drawn[:count]


@torch.inference_mode()
def attention_map(saliency: Saliency, watched: Watched) -> Density:
    """Where the network would look, (H, W), summing to 1."""
    device = saliency.weights.device
    saliency_1P = saliency.weigh(watched.channels[None].to(device), watched.early[None].to(device), watched.grid)
    attention_HW = upsample(saliency_1P.softmax(dim=1), watched.grid, watched.size)[0]
    return normalised(attention_HW.cpu().numpy())


def _saliency(encoder: TorchEncoder) -> Saliency:
    if encoder.network.saliency is None:
        raise InputError("the network has no saliency that could learn from gaze; give it a SaliencyConfig")
    return encoder.network.saliency


def _of(gaze: Gaze, names: Sequence[str]) -> Gaze:
    known = set(names)
    return Gaze(tuple(viewing for viewing in gaze.viewings if viewing.image in known), gaze.sizes, gaze.densities)
