"""The words of ImageNet's classes as ``mini``'s text tower says them: what the image side learns to say."""

from __future__ import annotations

from pathlib import Path

import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from phrases import NAMED
from safetensors.torch import load_file
from text import encode
from torch import Tensor

from sowa.model.backbone import Backbone
from sowa.model.mini import empty_clip


@torch.no_grad()
def imagenet_names(text: Path) -> Tensor:
    """Unit features (1000, E) of the classes' names; ``text`` is the folder that ``text.py`` wrote."""
    clip = empty_clip()
    clip.load_state_dict(load_file(text / "text.safetensors"), strict=False)
    tower = Backbone(clip, "text")
    tokens = tower.tokenize([NAMED.format(name) for name in IMAGENET_CLASSNAMES])
    return encode(tower, tokens)


def hidden_classes(hold_out: list[str]) -> Tensor:
    """Positions of the classes whose names are held out."""
    return torch.tensor([i for i, name in enumerate(IMAGENET_CLASSNAMES) if name.lower() in hold_out], dtype=torch.long)
