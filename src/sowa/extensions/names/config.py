"""Settings of what tells defects by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sowa.core.config import STRICT


@dataclass(frozen=True)
class NamerConfig:
    """What tells defects by their names (`sowa.extensions.names.namer`).

    Attributes:
        hidden: Width of its look at patches.
        dropout: Of that, in 0..1.
        length: How many learned words stand before every name.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    hidden: int = 256
    dropout: float = 0.3
    length: int = 4
