"""The network: the only file that knows all the stages (paper figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sowa.core.config import ModelConfig
from sowa.errors import InputError
from sowa.model.adapter import WindowAdapter
from sowa.model.alignment import level_map, similarity, text_probabilities
from sowa.model.backbone import Backbone
from sowa.model.prompts import Prompts
from sowa.model.saliency import Saliency
from sowa.model.types import NetworkOutput


class SowaNetwork(nn.Module):
    """Hierarchical frozen window attention with dual learnable prompts on a frozen CLIP backbone (paper section 3).

    Trainable are the adapters (one per level), the prompts, and saliency where the configuration has it; the backbone
    stays as it is.

    Args:
        backbone: Frozen.
        config: Of what is trained.

    Raises:
        InputError: the configuration doesn't fit the backbone.
    """

    def __init__(self, backbone: Backbone, config: ModelConfig) -> None:
        super().__init__()
        if backbone.width % config.adapter.heads:
            raise InputError(
                f"adapter heads {config.adapter.heads} don't divide the width {backbone.width} of backbone "
                f"{backbone.name!r}; choose a divisor"
            )
        self.config = config
        self.backbone = backbone
        salient = config.saliency is not None
        self.adapters = nn.ModuleList(WindowAdapter(backbone.width, config.adapter, salient) for _ in backbone.levels)
        self.prompts = Prompts(config.prompt, backbone)
        self.saliency = Saliency(config.saliency, backbone.embed_dim) if config.saliency else None

    def forward(self, images: Tensor, class_index: Tensor | None = None) -> NetworkOutput:
        """Normalised images to everything the method knows of them.

        Args:
            images: (B, 3, H, W), normalised as the backbone wants them.
            class_index: Which class's prompts each image is compared with, (B,); None means the first.
        """
        if class_index is None:
            class_index = torch.zeros(len(images), dtype=torch.long, device=images.device)
        return self.compare(images, self.prompts(self.backbone)[class_index])

    def compare(self, images: Tensor, class_text: Tensor) -> NetworkOutput:
        """As `forward`, with texts of one's own.

        Args:
            images: (B, 3, H, W), normalised as the backbone wants them.
            class_text: The text features that each image is compared with, (B, S, E).
        """
        # The backbone is frozen, but what it computes is differentiated by nobody: no graph is kept for it.
        with torch.no_grad():
            levels = self.backbone(images)
        saliency = self.stands_out(images, levels.patches[0], levels.grid)
        adapted = tuple(
            self.backbone.project(adapter(tokens, levels.grid, self.backbone.attention(level), saliency))
            for level, (adapter, tokens) in enumerate(zip(self.adapters, levels.tokens, strict=True))
        )
        similarities = tuple(similarity(patches, class_text) for patches in adapted)
        size = (images.shape[-2], images.shape[-1])
        return NetworkOutput(
            image_feature=levels.image_feature,
            class_text=class_text,
            text_probs=text_probabilities(levels.image_feature, class_text, self.config.temperature),
            patches=levels.patches,
            adapted=adapted,
            similarities=similarities,
            level_maps=tuple(level_map(values, levels.grid, size) for values in similarities),
            grid=levels.grid,
            saliency=saliency,
        )

    def stands_out(self, images: Tensor, early: Tensor, grid: tuple[int, int]) -> Tensor | None:
        """Saliency (B, P) of images; None where the configuration has none.

        Args:
            images: (B, 3, H, W), normalised as the backbone wants them.
            early: The first level's patches, (B, P, E).
            grid: (h, w) with h * w = P.
        """
        if self.saliency is None:
            return None
        saliency: Tensor = self.saliency(self.backbone.unnormalise(images), early, grid)
        return saliency

    def class_index(self, names: Sequence[str]) -> Tensor:
        """Positions of class names; a name the prompts don't know is taken as the first class, as published."""
        known = self.config.prompt.class_names
        return torch.tensor([known.index(name) if name in known else 0 for name in names])

    def trainable(self) -> dict[str, nn.Parameter]:
        """What is trained and saved, by name: everything but the backbone."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("backbone.")}
