"""How many reference pictures a product needs: by cross-validation, or by growing."""

from sowa.shots.curve import Choice, Point
from sowa.shots.folds import cross_validate
from sowa.shots.growing import grow
from sowa.shots.pool import Pool

METHODS = {"cv": cross_validate, "progressive": grow}

__all__ = ["METHODS", "Choice", "Point", "Pool", "cross_validate", "grow"]
