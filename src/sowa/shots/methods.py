"""The ways to find out, by the names that the command line has for them."""

from __future__ import annotations

from sowa.shots.folds import cross_validate
from sowa.shots.growing import grow
from sowa.shots.meta import predict_curve

METHODS = {"cv": cross_validate, "progressive": grow, "meta": predict_curve}
