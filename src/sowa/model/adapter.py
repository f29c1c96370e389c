"""FWA: frozen window self-attention, the adapter behind one level (paper section 3.2, METHOD.md section 2).

Shapes: B images, grid h x w, M window side, n = M * M tokens of a window, R = B * windows, G heads, D vision width.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sowa.core.config import AdapterConfig
from sowa.model.types import FrozenAttention

MAX_LOGIT_SCALE = math.log(100.0)
SHIFT_PENALTY = -100.0  # as in Swin: tokens that the cyclic shift brought together
PADDING_PENALTY = -1e4  # above any learned scale, yet finite, so that a row of padding alone stays defined


def partition(x_BhwD: Tensor, window: int) -> Tensor:
    """Grid to windows (paper section 3.2).

    Args:
        x_BhwD: (B, h, w, D).
        window: The side M of a window, which must divide h and w.

    Returns:
        (B * h/M * w/M, M * M, D).

    Example:
        >>> grid = torch.arange(16.0).reshape(1, 4, 4, 1)
        >>> windows = partition(grid, 2)
        >>> tuple(windows.shape), bool((reverse(windows, 2, (4, 4)) == grid).all())
        ((4, 4, 1), True)
    """
    b, h, w, d = x_BhwD.shape
    x = x_BhwD.reshape(b, h // window, window, w // window, window, d)
    return x.transpose(2, 3).reshape(-1, window * window, d)


def reverse(windows_RnD: Tensor, window: int, grid: tuple[int, int]) -> Tensor:
    """Windows back to the grid (B, h, w, D): undoes `partition`.

    Args:
        windows_RnD: (B * h/M * w/M, M * M, D).
        window: The side M of a window.
        grid: (h, w).
    """
    h, w = grid
    x = windows_RnD.reshape(-1, h // window, w // window, window, window, windows_RnD.shape[-1])
    return x.transpose(2, 3).reshape(-1, h, w, windows_RnD.shape[-1])


def fit_window(window: int, shift: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Window and shift for a grid: where the window covers the grid's short side, that side, unshifted (as Swin).

    Args:
        window: The configured side, in patches.
        shift: The configured shift, in patches.
        grid: (h, w).

    Example:
        >>> fit_window(12, 6, (24, 24)), fit_window(12, 6, (8, 24))
        ((12, 6), (8, 0))
    """
    short = min(grid)
    return (short, 0) if short <= window else (window, shift)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def attention_mask(grid: tuple[int, int], window: int, shift: int) -> Tensor | None:
    """What a token mustn't look at, added to the logits.

    The grid is padded at the bottom and the right to a multiple of the window, then rolled by the shift.

    Args:
        grid: (h, w).
        window: The side of a window; a window has n = window * window tokens.
        shift: In patches, 0 or more.

    Returns:
        (windows, 1, n, n), or None where a token may see everything.
    """
    h, w = (math.ceil(side / window) * window for side in grid)
    if shift == 0 and (h, w) == tuple(grid):
        return None
    padding = torch.ones(h, w)
    padding[: grid[0], : grid[1]] = 0
    padding_n = partition(padding.roll((-shift, -shift), (0, 1))[None, ..., None], window)[..., 0]
    region_n = torch.zeros_like(padding_n)
    if shift:
        bands = [
            torch.bucketize(torch.arange(side), torch.tensor([side - window, side - shift]), right=True)
            for side in (h, w)
        ]
        region_n = partition((bands[0][:, None] * 3 + bands[1])[None, ..., None].float(), window)[..., 0]
    mask = SHIFT_PENALTY * (region_n[:, :, None] != region_n[:, None, :]) + PADDING_PENALTY * padding_n[:, None, :]
    return mask[:, None]


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a table made under inference mode could never be trained with
def relative_offsets(window: int) -> tuple[Tensor, Tensor]:
    """Log-spaced relative offsets ((2M-1)^2, 2) and, for each pair of tokens, its row in that table (n * n,)."""
    steps = torch.arange(-(window - 1), window, dtype=torch.float32)
    table = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1) / max(window - 1, 1) * 8
    table = table.sign() * torch.log2(table.abs() + 1) / math.log2(8)
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()])
    offset = places[:, :, None] - places[:, None, :] + window - 1
    return table.reshape(-1, 2), (offset[0] * (2 * window - 1) + offset[1]).flatten()


class WindowAttention(nn.Module):
    """Cosine attention inside a window with the backbone's own frozen weights (paper section 3.2).

    Learned are only one temperature per head and the continuous relative position bias.

    Args:
        config: For heads, position bias and what attention passes on.
        salient: Whether also how much more a salient token is looked at is learned, per head, zero at the start.
    """

    def __init__(self, config: AdapterConfig, salient: bool = False) -> None:
        super().__init__()
        self.heads = config.heads
        self.value_only = config.value_only
        self.logit_scale = nn.Parameter(torch.full((config.heads, 1, 1), math.log(10.0)))
        self.position_mlp = nn.Sequential(
            nn.Linear(2, config.position_width),
            nn.ReLU(),
            nn.Linear(config.position_width, config.heads, bias=False),
        )
        self.saliency_bias = nn.Parameter(torch.zeros(config.heads, 1, 1)) if salient else None
        self.attention_dropout = nn.Dropout(config.dropout)
        self.output_dropout = nn.Dropout(config.dropout)

    def position_bias(self, window: int) -> Tensor:
        """Bias of each pair of tokens, (G, n, n), between 0 and 16."""
        table, index = relative_offsets(window)
        bias_NG = self.position_mlp(table.to(self.logit_scale))[index.to(self.logit_scale.device)]
        n = window * window
        bias: Tensor = 16 * torch.sigmoid(bias_NG.T.reshape(self.heads, n, n))
        return bias

    def forward(
        self, x_RnD: Tensor, frozen: FrozenAttention, window: int, mask: Tensor | None, saliency_Rn: Tensor | None
    ) -> Tensor:
        """Windows (R, n, D) to windows (R, n, D).

        Args:
            x_RnD: R windows of n tokens.
            frozen: The backbone's weights at this level.
            window: The side of a window, n = window * window.
            mask: (windows, 1, n, n) as of `attention_mask`.
            saliency_Rn: Of the tokens, where it's ``salient``.
        """
        query, key, value = self._split(x_RnD, frozen.in_proj_weight)
        scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        smallest = max(1e-12, torch.finfo(query.dtype).tiny)  # padding is all zeros, and 1e-12 is zero in fp16
        query, key = (F.normalize(part, dim=-1, eps=smallest) for part in (query, key))
        logits = (query * scale) @ key.transpose(-2, -1)
        logits = logits + self.position_bias(window)
        if self.saliency_bias is not None and saliency_Rn is not None:
            logits = logits + self.saliency_bias * saliency_Rn[:, None, None].to(logits.dtype)
        if mask is not None:
            mask = mask.to(logits.device, logits.dtype)
            logits = (logits.unflatten(0, (-1, len(mask))) + mask).flatten(0, 1)
        x_RGnd = self.attention_dropout(logits.softmax(dim=-1)) @ value
        x_RnD = x_RGnd.transpose(1, 2).flatten(2)
        x_RnD = self.output_dropout(F.linear(x_RnD, frozen.out_proj_weight, frozen.out_proj_bias))
        return x_RnD

    def _split(self, x_RnD: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (R, G, n, D / G); in value-only attention all three are the values."""
        if self.value_only:
            weight = weight.chunk(3)[2]
        parts = F.linear(x_RnD, weight).unflatten(-1, (-1, self.heads, x_RnD.shape[-1] // self.heads))
        heads = [part.transpose(1, 2) for part in parts.unbind(dim=2)]
        query, key, value = heads * 3 if self.value_only else heads
        return query, key, value


class AdapterBlock(nn.Module):
    """Window attention, then a linear layer, each behind a LayerNorm on its output and a residual.

    Args:
        width: D.
        config: Of the adapter.
        shift: Of the windows, in patches.
        salient: Whether what attention adds to a token is scaled by a learned multiple of its saliency, zero at the
            start.
    """

    def __init__(self, width: int, config: AdapterConfig, shift: int, salient: bool = False) -> None:
        super().__init__()
        self.window_size = config.window_size
        self.shift = shift
        self.attention = WindowAttention(config, salient)
        self.saliency_gate = nn.Parameter(torch.zeros(())) if salient else None
        self.norm_attention = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width, bias=False)
        self.norm_linear = nn.LayerNorm(width)

    def forward(
        self, x_BPD: Tensor, grid: tuple[int, int], frozen: FrozenAttention, saliency_BP: Tensor | None = None
    ) -> Tensor:
        """Level tokens (B, P, D) to level tokens (B, P, D).

        Args:
            x_BPD: The tokens.
            grid: (h, w) with h * w = P.
            frozen: The backbone's weights at this level.
            saliency_BP: Of the tokens, where it's ``salient``.
        """
        attended_BPD = self.norm_attention(self._attend(x_BPD, grid, frozen, saliency_BP))
        if self.saliency_gate is not None and saliency_BP is not None:
            attended_BPD = attended_BPD * (1 + self.saliency_gate * saliency_BP[..., None].to(attended_BPD.dtype))
        x_BPD = x_BPD + attended_BPD
        x_BPD = x_BPD + self.norm_linear(self.linear(x_BPD))
        return x_BPD

    def _attend(
        self, x_BPD: Tensor, grid: tuple[int, int], frozen: FrozenAttention, saliency_BP: Tensor | None
    ) -> Tensor:
        window, shift = fit_window(self.window_size, self.shift, grid)
        bottom, right = -grid[0] % window, -grid[1] % window

        def windows(values_BPC: Tensor) -> Tensor:
            padded = F.pad(values_BPC.unflatten(1, grid), (0, 0, 0, right, 0, bottom))
            return partition(padded.roll((-shift, -shift), dims=(1, 2)), window)

        saliency_Rn = None if saliency_BP is None else windows(saliency_BP[..., None])[..., 0]
        mask = attention_mask(grid, window, shift)
        attended = self.attention(windows(x_BPD), frozen, window, mask, saliency_Rn)
        x = reverse(attended, window, (grid[0] + bottom, grid[1] + right)).roll((shift, shift), dims=(1, 2))
        return x[:, : grid[0], : grid[1]].flatten(1, 2)


class WindowAdapter(nn.Module):
    """The adapter of one level: ``depth`` blocks, every odd one with shifted windows (paper section 3.2).

    Args:
        width: D.
        config: Window, depth and heads.
        salient: Whether it learns to use what stands out of an image.

    Raises:
        ValueError: the heads don't divide the width.
    """

    def __init__(self, width: int, config: AdapterConfig, salient: bool = False) -> None:
        super().__init__()
        if width % config.heads:
            raise ValueError(f"adapter heads {config.heads} don't divide the backbone's width {width}")
        shifts = [config.window_size // 2 * (index % 2) for index in range(config.depth)]
        self.blocks = nn.ModuleList(AdapterBlock(width, config, shift, salient) for shift in shifts)

    def forward(
        self,
        tokens_BPD: Tensor,
        grid: tuple[int, int],
        frozen: FrozenAttention,
        saliency_BP: Tensor | None = None,
    ) -> Tensor:
        """Level tokens (B, P, D) to adapted tokens (B, P, D).

        Args:
            tokens_BPD: Of the level.
            grid: (h, w) with h * w = P.
            frozen: The backbone's weights at this level.
            saliency_BP: As of `sowa.model.saliency.Saliency`.
        """
        for block in self.blocks:
            tokens_BPD = block(tokens_BPD, grid, frozen, saliency_BP)
        return tokens_BPD
