"""Dual learnable prompts: one sentence per class, template and state with learned words in front (paper section 3.3).

Shapes: C classes, K templates, S = 2 states, N learned context vectors, T text tokens, W text width, E joint width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sowa.core.config import PromptConfig
from sowa.model.types import TextTower


class Prompts(nn.Module):
    """Turns learned context and fixed templates into class text features (paper section 3.3).

    The frozen text tower is part of the computation but not of this module, so it is neither trained nor saved here.

    Args:
        config: Classes, templates and how many vectors are learned.
        tower: That reads them.
    """

    tokens: Tensor
    embeddings: Tensor

    def __init__(self, config: PromptConfig, tower: TextTower) -> None:
        super().__init__()
        self.config = config
        shape = (len(config.class_names), len(config.normal_templates), config.length, tower.text_width)
        self.context_normal = nn.Parameter(torch.empty(shape).normal_(std=0.02))
        self.context_abnormal = nn.Parameter(torch.empty(shape).normal_(std=0.02))
        self.linear = nn.Linear(tower.embed_dim, tower.embed_dim) if config.text_linear else None
        tokens = tower.tokenize(sentences(config))
        self.register_buffer("tokens", tokens, persistent=False)
        with torch.no_grad():
            self.register_buffer("embeddings", tower.embed_tokens(tokens).clone(), persistent=False)
        self._cached: tuple[tuple[Tensor, ...], Tensor] | None = None

    def forward(self, tower: TextTower) -> Tensor:
        """Class text features (C, S, E): computed anew in training, otherwise only after a weight has changed."""
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            return self.pool(self.encode(tower))
        weights = tuple(self.parameters())
        if self._cached is None or not _same(self._cached[0], weights):
            features = self.pool(self.encode(tower))
            self._cached = (tuple(weight.detach().clone() for weight in weights), features)
        return self._cached[1]

    def encode(self, tower: TextTower) -> Tensor:
        """Text features (S * C * K, E), all normal ones first, before Linear and pooling."""
        contexts = torch.stack([self.context_normal, self.context_abnormal]).flatten(0, 2)
        after = 1 + self.config.length
        embeddings = torch.cat([self.embeddings[:, :1], contexts, self.embeddings[:, after:]], dim=1)
        return tower.encode_text(embeddings, self.tokens.argmax(dim=-1))

    def pool(self, features: Tensor) -> Tensor:
        """Text features (S * C * K, E) to the mean over templates (C, S, E), after the optional Linear."""
        if self.linear is not None:
            features = self.linear(features)
        classes = len(self.config.class_names)
        pooled: Tensor = features.unflatten(0, (2, classes, -1)).mean(dim=2).transpose(0, 1)
        return pooled


def sentences(config: PromptConfig) -> list[str]:
    """The prompts in words, ``X`` for each learned vector: states outermost, then classes, then templates.

    Example:
        >>> from sowa.core.config import PromptConfig
        >>> found = sentences(PromptConfig())
        >>> found[0].startswith("X X"), len(found) == len(set(found))
        (True, True)
    """
    prefix = "X " * config.length
    return [
        f"{prefix}{template.format(name)}."
        for templates in (config.normal_templates, config.abnormal_templates)
        for name in config.class_names
        for template in templates
    ]


def _same(before: tuple[Tensor, ...], now: tuple[Tensor, ...]) -> bool:
    # Values, not version counters: `weight.data` can be written without a trace. They are few, so comparing is cheap.
    return all(
        a.device == b.device and a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(before, now, strict=True)
    )
