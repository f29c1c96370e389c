"""Classes as words: one sentence per class and template, with learned words in front (CoOp; Zhou et al., 2022).

The method's dual prompts know two states of a class; here each class is a state of its own, so that a class is told
apart from the others.

Shapes: C classes, K templates, N learned context vectors, T text tokens, W text width, E joint width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sowa.core.config import WordsConfig
from sowa.errors import InputError
from sowa.model.types import TextTower


def check_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Names that a user gives, without space around them.

    Args:
        names: As given.
        what: What they are of, for the message.

    Raises:
        InputError: there is none, an empty one, or one twice.

    Example:
        >>> check_names([" screw", "nut"], "names")
        ('screw', 'nut')
    """
    words = tuple(name.strip() for name in names)
    if not words or not all(words) or len(set(words)) < len(words):
        raise InputError(f"{what} are {list(names)}, needed is one or more, none empty and none twice")
    return words


class Words(nn.Module):
    """Names of classes to unit vectors. The frozen text tower is no part of it, so it's neither trained nor saved here.

    The learned words are the same before every class, or each class has its own where ``config.own`` says so; classes
    that were never trained can then be read too, with the mean of the others'.

    Args:
        names: Of the classes, C of them.
        config: Templates and how many words are learned.
        tower: That reads them.
    """

    def __init__(self, names: Sequence[str], config: WordsConfig, tower: TextTower) -> None:
        super().__init__()
        self.names, self.config = tuple(names), config
        shape = (len(self.names) if config.own else 1, config.length, tower.text_width)
        self.context = nn.Parameter(torch.empty(shape).normal_(std=0.02))

    def forward(self, tower: TextTower) -> Tensor:
        """The classes' text features (C, E), unit vectors."""
        return self.read(self.names, tower, self.context)

    def read(self, names: Sequence[str], tower: TextTower, context: Tensor | None = None) -> Tensor:
        """Text features of any names (C, E), unit vectors: the mean over templates of unit vectors.

        Args:
            names: C of them.
            tower: That reads them.
            context: Learned words before each name; by default those before classes that were never trained.

        Raises:
            InputError: a name whose sentence is too long for the text tower.
        """
        if context is None:
            context = self.context.mean(dim=0, keepdim=True)
        templates, after = self.config.templates, 1 + self.config.length
        learned = "X " * self.config.length
        plain = [name.replace("_", " ") for name in names]
        tokens = tower.tokenize([f"{learned}{template.format(name)}." for name in plain for template in templates])
        tokens = tokens.to(self.context.device)
        embeddings = tower.embed_tokens(tokens)
        contexts = context.expand(len(plain), -1, -1).repeat_interleave(len(templates), dim=0)
        embeddings = torch.cat([embeddings[:, :1], contexts, embeddings[:, after:]], dim=1)
        features = F.normalize(tower.encode_text(embeddings, tokens.argmax(dim=-1)), dim=-1)
        return F.normalize(features.unflatten(0, (len(plain), len(templates))).mean(dim=1), dim=-1)
