"""Photo-like images of manufactured surfaces and parts, with realistic defects and exact masks."""

from sowa.synthetic.damage import DAMAGE_TYPES, damage
from sowa.synthetic.dataset import write_dataset
from sowa.synthetic.generator import (
    CATEGORIES,
    DEFECT_TYPES,
    SMALLEST_SIZE,
    SyntheticImage,
    defect_types,
    generate,
)

__all__ = [
    "CATEGORIES",
    "DAMAGE_TYPES",
    "DEFECT_TYPES",
    "SMALLEST_SIZE",
    "SyntheticImage",
    "damage",
    "defect_types",
    "generate",
    "write_dataset",
]
