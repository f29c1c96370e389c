"""Maps and scores of images, each image by itself (METHOD.md section 6).

Shapes: L levels, B images, P = h * w patches, H x W pixels, E joint width.
"""

from __future__ import annotations

from collections.abc import Sequence

from sowa.core.arrays import Array, average_pool, largest, namespace
from sowa.core.config import ModelConfig
from sowa.core.maps import smooth, upsample
from sowa.core.memory import normalise
from sowa.core.search import CHUNK
from sowa.core.types import Features, Judgement

TOP_FRACTION = 0.01
"""Of an image's values: the score is the mean of so many highest ones."""
SELF_FRACTION = 1 / 30
"""Of an image's patches: so many others a normal one resembles."""


def judge_zero_shot(features: Features, config: ModelConfig) -> Judgement:
    """The verdict of the prompts alone.

    The score is the mean of the image's abnormal probability and of the highest hundredth of its map, in 0..1, plus
    ``config.prompt.self_weight`` times what stands out among the image's own patches (`self_distances`). The authors
    take the maximum and scale by all test images; the mean needs no other image.

    Args:
        features: With ``level_maps`` and ``abnormal_probability``.
        config: For ``sigma`` and ``prompt.self_weight``.

    Raises:
        ValueError: the prompts weren't asked.
    """
    if features.level_maps is None or features.abnormal_probability is None:
        raise ValueError("without a memory bank prompts are needed: encode with prompts, or fit first")
    maps, level_maps = _prompt_maps(features, config.sigma)
    return Judgement(_zero_shot_scores(features, maps, config.prompt.self_weight), maps, level_maps)


def judge_few_shot(
    features: Features,
    distances_LBP: Array,
    config: ModelConfig,
    use_prompts: bool = True,
    zero_shot_weight: float = 0.0,
) -> Judgement:
    """The verdict of a memory bank, with the prompts' map where they were asked.

    The map is the published one, few-shot plus ``config.prompt.map_weight`` times zero-shot. The score is that of the
    distances, of patches, since enlarging flattens a defect of one patch. Adding the prompts' score everywhere lowered
    accuracy (benchmarks/results/choices.md), so it counts only as references say (`sowa.core.levels`).

    Args:
        features: What was encoded.
        distances_LBP: Of patches to the memory bank, (L, B, P) in 0..2.
        config: For ``sigma`` and ``prompt.map_weight``.
        use_prompts: Whether the prompts' map is added where there is one.
        zero_shot_weight: What the score of `judge_zero_shot` is multiplied by before it's added to that of the
            distances, 0 and more.

    Raises:
        ValueError: the zero-shot score counts, but the prompts weren't asked.
    """
    scores = few_shot_scores(distances_LBP)
    maps = few_shot_map(distances_LBP, features.grid, features.size)
    by_image_BLP = namespace(distances_LBP).permute_dims(distances_LBP, (1, 0, 2))
    level_maps = by_image_BLP.reshape(*by_image_BLP.shape[:2], *features.grid)
    if features.level_maps is None or not use_prompts:
        if zero_shot_weight:
            raise ValueError("the zero-shot score counts beside this memory bank: encode with prompts")
        return Judgement(scores, maps, level_maps)
    prompt_maps, prompt_levels = _prompt_maps(features, config.sigma)
    if zero_shot_weight:
        scores = scores + zero_shot_weight * _zero_shot_scores(features, prompt_maps, config.prompt.self_weight)
    weight, own = config.prompt.map_weight, len(features.level_maps)
    parts = (level_maps[:, :own] + weight * prompt_levels, level_maps[:, own:])  # a whole seen small asks no prompts
    return Judgement(scores, maps + weight * prompt_maps, namespace(maps).concat(parts, axis=1))


def zero_shot_map(level_maps: Sequence[Array], sigma: float) -> Array:
    """Sum over levels of the abnormal probability, smoothed: L times (B, H, W) to (B, H, W) in 0..L."""
    stacked = namespace(level_maps[0]).stack(tuple(level_maps))
    return smooth(namespace(stacked).sum(stacked, axis=0), sigma)


def few_shot_map(distances_LBP: Array, grid: tuple[int, int], size: tuple[int, int]) -> Array:
    """Sum over levels of the distance to the memory bank, not smoothed: (L, B, P) to (B, H, W) in 0..2L.

    Interpolation is linear, so the levels are summed before they are enlarged.
    """
    return upsample(namespace(distances_LBP).sum(distances_LBP, axis=0), grid, size)


def few_shot_scores(distances_LBP: Array) -> Array:
    """Scores (B,) by the distances of patches (L, B, P): the sum of `level_scores`."""
    scores_LB = level_scores(distances_LBP)
    return namespace(scores_LB).sum(scores_LB, axis=0)


def level_scores(distances_LBP: Array) -> Array:
    """What each level says of images, (L, B), by the distances of patches (L, B, P): the mean of the highest hundredth.

    Each level finds its own worst patches.
    """
    return namespace(distances_LBP).stack([top_mean(distances_LBP[level]) for level in range(len(distances_LBP))])


def self_distances(patches: Sequence[Array]) -> Array:
    """How far patches lie from the others of their own image: mean of 1 - cosine to the nearest `SELF_FRACTION`.

    A surface repeats itself, and a part is made of few things. What nothing else in the image resembles is suspect,
    and no other image is needed to see it.

    Args:
        patches: Raw patches, L times (B, P, E).

    Returns:
        (L, B, P) in 0..2.
    """
    unit_LBPE = normalise(patches)
    xp, count = namespace(unit_LBPE), unit_LBPE.shape[2]
    others, step = max(1, round(SELF_FRACTION * count)), max(1, CHUNK // count)  # whatever the batch: a graph's is open
    levels = []
    for unit_BPE in unit_LBPE:
        parts = (unit_BPE[:, start : start + step] for start in range(0, count, step))
        cosines = (part @ xp.matrix_transpose(unit_BPE) for part in parts)
        nearest = (largest(each, min(others + 1, count))[..., 1:] for each in cosines)  # the first is itself
        levels.append(xp.concat([xp.sum(1 - each, axis=-1) for each in nearest], axis=1) / others)
    return xp.stack(levels).clip(min=0)


def top_mean(values: Array, fraction: float = TOP_FRACTION) -> Array:
    """Mean of the highest ``fraction`` of each image's values, (B, ...) to (B,): sharp, yet not one pixel's noise.

    Example:
        >>> import numpy as np
        >>> top_mean(np.arange(10.0).reshape(1, 10), fraction=0.2).tolist()
        [8.5]
    """
    values_BN = values.reshape(values.shape[0], -1)
    highest = largest(values_BN, max(1, round(fraction * values_BN.shape[1])))
    return namespace(highest).mean(highest, axis=1)


def paper_scores(abnormal_probability: Array, map_maximum: Array) -> Array:
    """Image scores as the authors publish few-shot results, for reproduction only.

    The minimum and maximum over the whole test set of a category enter every score, so no score of one image exists.

    Args:
        abnormal_probability: Of all N test images of one category, (N,) in 0..1.
        map_maximum: Of the same, (N,).

    Returns:
        Scores (N,) in 0..1.
    """
    xp = namespace(map_maximum)
    low, high = xp.min(map_maximum), xp.max(map_maximum)
    spread = (high - low).clip(min=xp.finfo(map_maximum.dtype).smallest_normal)
    return 0.5 * (abnormal_probability + (map_maximum - low) / spread)


def _zero_shot_scores(features: Features, maps: Array, self_weight: float) -> Array:
    """(B,), see `judge_zero_shot`; ``maps`` are those of `zero_shot_map`."""
    assert features.level_maps is not None
    levels = len(features.level_maps)
    scores = 0.5 * (features.abnormal_probability + top_mean(maps) / levels)
    return scores + self_weight * few_shot_scores(self_distances(features.patches[:levels])) if self_weight else scores


def _prompt_maps(features: Features, sigma: float) -> tuple[Array, Array]:
    """The prompts' map (B, H, W), and what each level shows on the grid of patches, (B, L, h, w)."""
    assert features.level_maps is not None
    stacked_BLHW = namespace(features.level_maps[0]).stack(tuple(features.level_maps), axis=1)
    return zero_shot_map(features.level_maps, sigma), average_pool(stacked_BLHW, features.grid)
