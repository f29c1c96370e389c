"""Bottom-up saliency: what stands out of an image by itself, before anybody asks for anything.

Low-level contrasts (Itti, Koch and Niebur 1998), the spectral residual (Hou and Zhang 2007), and contrasts of early
network features are each standardised inside an image and added with learned weights.

Shapes: B images, H x W pixels, P = h * w patches, E width of early features, C channels, O orientations, S side of
the spectrum.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sowa.core.config import SaliencyConfig
from sowa.model.early import EarlyLayers

FINE = 4  # samples along a patch's side that low-level contrasts are computed at
SURROUNDS = ((3, 9), (5, 17))  # sides of centre and surround, in such samples
ORIENTATIONS, GABOR = 4, 7
SPECTRUM = 64  # the side at which Hou and Zhang look at an image
NEIGHBOURS = 5  # side of a patch's surround, in patches
ROUNDING = 1e-4  # of a squared amplitude; one grey value of one pixel has 1.5e-5
LIMIT = 4.0  # standard deviations; what stands out more counts as much
CHANNELS = ("intensity", "red_green", "blue_yellow", "orientation", "texture", "spectrum", "contrast", "rarity")


class Saliency(nn.Module):
    """How much each patch stands out, in about standard deviations of an image; its softmax is where one would look.

    Learned are the weight of each of ``CHANNELS``, the pull of the image's centre, and a direction in the space of
    early features. They start as the channels' mean, without a centre and without a direction. Early features are the
    first level's patches of the backbone, or of the CNN that the configuration names.

    Args:
        config: Names the CNN, if there is one.
        width: E, of the backbone's early patches.

    Raises:
        InputError: a CNN that can't be had.
    """

    gabor: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, config: SaliencyConfig, width: int) -> None:
        super().__init__()
        self.cnn = EarlyLayers(config.cnn) if config.cnn else None
        self.weights = nn.Parameter(torch.full((len(CHANNELS),), 1 / len(CHANNELS)))
        self.centre = nn.Parameter(torch.zeros(()))
        self.direction = nn.Parameter(torch.zeros(self.cnn.channels if self.cnn else width))
        self.register_buffer("gabor", _gabor(), persistent=False)
        angle = 2 * math.pi / SPECTRUM * torch.outer(torch.arange(SPECTRUM), torch.arange(SPECTRUM)).double()
        self.register_buffer("cosine", angle.cos().float(), persistent=False)
        self.register_buffer("sine", angle.sin().float(), persistent=False)

    def forward(self, images: Tensor, early_BPE: Tensor, grid: tuple[int, int]) -> Tensor:
        """The saliency of patches, (B, P).

        Args:
            images: (B, 3, H, W) in 0..1.
            early_BPE: The backbone's early patches, (B, P, E).
            grid: (h, w) with h * w = P.
        """
        with torch.autocast(images.device.type, enabled=False):  # contrasts are small differences
            return self.weigh(*self.read(images.float(), early_BPE.float(), grid), grid)

    def read(self, images: Tensor, early_BPE: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What isn't learned: standardised channels (B, C, P) and early features as unit vectors (B, P, E).

        Args:
            images: (B, 3, H, W) in 0..1.
            early_BPE: The backbone's early patches, (B, P, E).
            grid: (h, w) with h * w = P.
        """
        if self.cnn:
            early_BPE = F.adaptive_avg_pool2d(self.cnn(images), grid).flatten(2).transpose(1, 2)
        unit_BPE = F.normalize(early_BPE, dim=-1)
        images = images.contiguous()  # with channels last pooling is slow (benchmarks/results/attention.md)
        return standardise(self.channels(images, unit_BPE, grid)), unit_BPE

    def weigh(self, channels_BCP: Tensor, unit_BPE: Tensor, grid: tuple[int, int]) -> Tensor:
        """What `read` gives to saliency (B, P).

        Args:
            channels_BCP: Standardised, (B, C, P).
            unit_BPE: Unit vectors, (B, P, E).
            grid: (h, w) with h * w = P.
        """
        return (
            (self.weights[:, None] * channels_BCP).sum(dim=1)
            + self.centre * _central(grid).to(channels_BCP.device)
            + unit_BPE @ self.direction
        )

    def channels(self, images: Tensor, unit_BPE: Tensor, grid: tuple[int, int]) -> Tensor:
        """Each of ``CHANNELS``, not yet standardised, (B, C, P).

        Args:
            images: (B, 3, H, W) in 0..1.
            unit_BPE: Early features as unit vectors, (B, P, E).
            grid: (h, w) with h * w = P.
        """
        fine = F.adaptive_avg_pool2d(images, (FINE * grid[0], FINE * grid[1]))
        red, green, blue = fine.unbind(dim=1)
        intensity = fine.mean(dim=1)
        opponents = torch.stack([intensity, red - green, blue - (red + green) / 2], dim=1)
        even, odd = F.conv2d(_pad(intensity[:, None], GABOR), self.gabor).chunk(2, dim=1)
        energy_BO = (even.square() + odd.square() + 1e-8).sqrt()
        local = intensity[:, None]
        texture = (_box(local.square(), NEIGHBOURS) - _box(local, NEIGHBOURS).square()).clamp(min=1e-8).sqrt()
        low = _stands_out(torch.cat([opponents, energy_BO, texture], dim=1))
        orientation = low[:, 3 : 3 + ORIENTATIONS].mean(dim=1, keepdim=True)
        low = torch.cat([low[:, :3], orientation, low[:, 3 + ORIENTATIONS :]], dim=1)
        low = F.avg_pool2d(low, FINE).flatten(2)
        spectrum = F.adaptive_avg_pool2d(self._spectral_residual(images), grid).flatten(2)
        return torch.cat([low, spectrum, _unlike(unit_BPE, grid)], dim=1)

    def _spectral_residual(self, images: Tensor) -> Tensor:
        """What an image's spectrum has over its own smooth course, back in the image, (B, 1, S, S).

        Products with the matrices of the Fourier transform: at this size no slower than the fast one, and exportable.
        """
        x = F.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), (SPECTRUM, SPECTRUM))
        cosine, sine = self.cosine, self.sine
        real = cosine @ x @ cosine - sine @ x @ sine
        imaginary = -(cosine @ x @ sine + sine @ x @ cosine)
        amplitude = (real.square() + imaginary.square() + ROUNDING).sqrt()
        logarithm = amplitude.log()
        gain = (logarithm - _box(logarithm, 3)).exp() / amplitude
        real, imaginary = real * gain, imaginary * gain
        back = cosine @ real @ cosine - sine @ real @ sine - (cosine @ imaginary @ sine + sine @ imaginary @ cosine)
        back_imaginary = (
            cosine @ imaginary @ cosine - sine @ imaginary @ sine + cosine @ real @ sine + sine @ real @ cosine
        )
        return _box(back.square() + back_imaginary.square(), NEIGHBOURS)


def standardise(values: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 along the last dimension, cut at ``LIMIT``; near 0 where all are nearly equal.

    Example:
        >>> found = standardise(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> bool(found.mean().abs() < 1e-6), bool(found[0, 1] == 0)
        (True, True)
    """
    mean = values.mean(dim=-1, keepdim=True)
    deviation = (values - mean).square().mean(dim=-1, keepdim=True).sqrt()
    return ((values - mean) / deviation.clamp(min=1e-6 + 1e-3 * mean.abs())).clamp(-LIMIT, LIMIT)


def _stands_out(channels: Tensor) -> Tensor:
    """How far the centre differs from its surround at every sample, over all ``SURROUNDS``, (B, C, H, W)."""
    return torch.stack([(_box(channels, near) - _box(channels, far)).abs() for near, far in SURROUNDS]).sum(dim=0)


def _unlike(unit_BPE: Tensor, grid: tuple[int, int]) -> Tensor:
    """How far each patch's early features point from those of its neighbours and of the image, (B, 2, P)."""
    rows, columns = (_band(length, NEIGHBOURS).to(unit_BPE.device) for length in grid)
    along_BhwE = columns @ unit_BPE.unflatten(1, grid)
    around = (rows @ along_BhwE.flatten(2)).unflatten(2, along_BhwE.shape[2:]).flatten(1, 2)  # a fifth of `_box`
    contrast_BP = 1 - (unit_BPE * F.normalize(around, dim=-1)).sum(dim=-1)
    typical_BE = F.normalize(unit_BPE.mean(dim=1), dim=-1)
    rarity_BP = 1 - (unit_BPE @ typical_BE[:, :, None])[..., 0]
    return torch.stack([contrast_BP, rarity_BP], dim=1)


def _box(x: Tensor, side: int) -> Tensor:
    """Mean over a square around each sample of (..., H, W), the border continued.

    Products with banded matrices, a third of what pooling takes.
    """
    rows, columns = (_band(length, side).to(x.device) for length in x.shape[-2:])
    return rows @ x @ columns.T


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _band(length: int, side: int) -> Tensor:
    """Means over ``side`` neighbours along a line of ``length`` samples, (length, length)."""
    places = torch.arange(length)[:, None] + torch.arange(side) - side // 2
    return F.one_hot(places.clamp(0, length - 1), length).float().mean(dim=1)


def _pad(x: Tensor, side: int) -> Tensor:
    return F.pad(x, (side // 2,) * 4, mode="replicate")


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _central(grid: tuple[int, int]) -> Tensor:
    """Standardised Gaussian around the centre, a quarter of each side wide, (P,)."""
    rows, columns = ((torch.arange(side) + 0.5) / side - 0.5 for side in grid)
    squared = rows[:, None].square() + columns.square()
    return standardise(torch.exp(-squared / (2 * 0.25**2)).flatten())


def _gabor() -> Tensor:
    """Even and odd Gabor filters of each orientation without their mean, (2 * O, 1, side, side)."""
    steps = torch.arange(GABOR) - GABOR // 2
    y, x = torch.meshgrid(steps.float(), steps.float(), indexing="ij")
    envelope = torch.exp(-(x.square() + y.square()) / (2 * 2.0**2))
    waves = []
    for phase in (0.0, math.pi / 2):
        for index in range(ORIENTATIONS):
            angle = math.pi * index / ORIENTATIONS
            along = x * math.cos(angle) + y * math.sin(angle)
            wave = envelope * torch.cos(2 * math.pi * along / 4 - phase)
            waves.append(wave - envelope * wave.sum() / envelope.sum())
    return torch.stack(waves)[:, None]
