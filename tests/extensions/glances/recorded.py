"""Recorded images made by hand, and plain orders of tiles, for tests that need no network."""

from __future__ import annotations

import numpy as np
import torch

from sowa.extensions.glances.features import OVERVIEW_EVIDENCE, ReferenceStatistics
from sowa.extensions.glances.game import GlanceState, RecordedImage, TileOrder
from sowa.extensions.glances.tiles import TileLayout

LAYOUT = TileLayout((8, 8), (2, 2), tuple((row, column) for row in range(0, 8, 2) for column in range(0, 8, 2)))
USUAL = np.array([np.log(0.2), 0.3], np.float32)
PLAIN = np.array([0, 1], np.float32)
STATISTICS = ReferenceStatistics(
    tile_score=USUAL,
    level_score=np.tile([np.log(0.1), 0.3], (2, 1)).astype(np.float32),
    overview_peak=PLAIN,
    overview_mean=PLAIN,
    overview_peak_here=np.zeros(16, np.float32),
    early_peak_here=np.zeros(16, np.float32),
    early_peak_spread=np.ones(1, np.float32),
    image_score=USUAL,
    tile_from_overview=np.tile(PLAIN, (2, 1)),
)


def recorded(seed: int, layout: TileLayout = LAYOUT) -> RecordedImage:
    """Every second image has a defect in one tile, which the overview's mean distance tells, but not the highest."""
    random = np.random.default_rng(seed)
    table = torch.full((2, 64, 2), 0.1, dtype=torch.float16)
    evidence = random.normal(0, 0.3, (len(layout), len(OVERVIEW_EVIDENCE))).astype(np.float32)
    place = int(random.integers(len(layout)))
    evidence[place, OVERVIEW_EVIDENCE.index("mean")] += 4
    fraction = np.zeros(len(layout), np.float32)
    if seed % 2:
        table[:, layout.patches[place], 1] = 0.4
        fraction[place] = 1
    return RecordedImage(layout, STATISTICS, evidence, table, fraction)


def raster(state: GlanceState) -> int:
    """Row by row."""
    return int(state.available.argmax())


def at_random(seed: int) -> TileOrder:
    """As they are drawn."""
    random = np.random.default_rng(seed)
    return lambda state: int(random.choice(np.flatnonzero(state.available)))


def highest(evidence: str) -> TileOrder:
    """By what the overview tells, the highest first."""
    column = OVERVIEW_EVIDENCE.index(evidence)
    return lambda state: int(np.where(state.available, state.overview_evidence[:, column], -np.inf).argmax())
