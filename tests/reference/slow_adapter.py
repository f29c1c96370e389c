"""The window adapter once more, one token and one head at a time, straight from METHOD.md section 2.

Slow on purpose: fp64 numpy, explicit loops, no reshaping into windows and no mask tensors. Every real token looks up
which other real tokens share its window, so padding never enters.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


def position_bias(down: int, right: int, window: int, block: Weights) -> Array:
    """Bias of every head for a query ``down`` rows below and ``right`` columns right of its key."""
    relative = []
    for offset in (down, right):
        t = 8 * offset / (window - 1) if window > 1 else 0.0
        sign = (t > 0) - (t < 0)
        relative.append(sign * math.log2(abs(t) + 1) / math.log2(8))
    hidden = block["attention.position_mlp.0.weight"] @ np.array(relative) + block["attention.position_mlp.0.bias"]
    logits = block["attention.position_mlp.2.weight"] @ np.maximum(hidden, 0)
    return 16 / (1 + np.exp(-logits))


def layer_norm(x_D: Array, weight: Array, bias: Array) -> Array:
    return (x_D - x_D.mean()) / np.sqrt(x_D.var() + 1e-5) * weight + bias


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def attend(
    tokens_PD: Array,
    grid: tuple[int, int],
    block: Weights,
    frozen: tuple[Array, Array, Array],
    window: int,
    shift: int,
    value_only: bool,
) -> Array:
    """Attention of every token of one image inside its window, before the residual."""
    rows, columns = grid
    if min(grid) <= window:  # as in Swin: a window over the whole short side isn't shifted
        window, shift = min(grid), 0
    in_weight, out_weight, out_bias = frozen
    heads, width = len(block["attention.logit_scale"]), tokens_PD.shape[1]
    size = width // heads
    padded = [math.ceil(side / window) * window for side in grid]
    places = [(row, column) for row in range(rows) for column in range(columns)]
    # Where the cyclic shift puts each token: its window, its place in there, and whether it came round an edge.
    shifted = [((row - shift) % padded[0], (column - shift) % padded[1]) for row, column in places]
    in_window = [(row // window, column // window) for row, column in shifted]
    came_round = [(row < shift, column < shift) for row, column in places]
    parts = tokens_PD @ in_weight.T
    query, key, value = parts[:, :width], parts[:, width : 2 * width], parts[:, 2 * width :]
    if value_only:
        query = key = value
    merged = np.zeros_like(tokens_PD)
    for i in range(len(places)):
        others = [j for j in range(len(places)) if in_window[j] == in_window[i]]
        for head in range(heads):
            cut = slice(head * size, (head + 1) * size)
            scale = math.exp(min(float(block["attention.logit_scale"][head, 0, 0]), math.log(100)))
            logits = []
            for j in others:
                bias = position_bias(shifted[i][0] - shifted[j][0], shifted[i][1] - shifted[j][1], window, block)
                far = -100.0 if came_round[i] != came_round[j] else 0.0
                logits.append(scale * cosine(query[i, cut], key[j, cut]) + bias[head] + far)
            weights = np.exp(np.array(logits) - max(logits))
            weights /= weights.sum()
            for weight, j in zip(weights, others, strict=True):
                merged[i, cut] += weight * value[j, cut]
    return np.stack([out_weight @ merged[i] + out_bias for i in range(len(places))])


def slow_adapter(
    tokens_BPD: Array,
    grid: tuple[int, int],
    blocks: list[Weights],
    frozen: tuple[Array, Array, Array],
    window: int,
    value_only: bool,
) -> Array:
    """Level tokens (B, P, D) to adapted tokens (B, P, D), through all ``blocks``; every odd one is shifted."""
    adapted = []
    for x_PD in tokens_BPD:
        for index, block in enumerate(blocks):
            shift = window // 2 if index % 2 else 0
            attended = attend(x_PD, grid, block, frozen, window, shift, value_only)
            weight, bias = block["norm_attention.weight"], block["norm_attention.bias"]
            x_PD = np.stack([x + layer_norm(y, weight, bias) for x, y in zip(x_PD, attended, strict=True)])
            weight, bias = block["norm_linear.weight"], block["norm_linear.bias"]
            x_PD = np.stack([x + layer_norm(block["linear.weight"] @ x, weight, bias) for x in x_PD])
        adapted.append(x_PD)
    return np.stack(adapted)
