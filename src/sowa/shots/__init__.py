"""How many reference images a product needs: by cross-validation, by growing, or by what other products taught."""

from sowa.shots.curve import Choice, Point
from sowa.shots.folds import cross_validate, suited
from sowa.shots.growing import grow
from sowa.shots.kept import Kept
from sowa.shots.meta import foresee
from sowa.shots.pool import Pool

METHODS = {"cv": cross_validate, "progressive": grow, "meta": foresee}

__all__ = ["METHODS", "Choice", "Kept", "Point", "Pool", "cross_validate", "foresee", "grow", "suited"]
