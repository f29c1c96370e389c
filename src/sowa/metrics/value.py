"""What a metric is: a number in 0..1, or NaN and the reason why there is none."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricValue:
    """One metric.

    Attributes:
        value: Fraction in 0..1; NaN where the metric is undefined.
        why: The reason where the metric is undefined, else None.
        error_bound: How far the exact value can be from ``value``; 0.0 if that is exact, None if no bound is known.

    Raises:
        ValueError: the value is neither in 0..1 nor NaN with a reason.
    """

    value: float
    why: str | None = None
    error_bound: float | None = 0.0

    def __post_init__(self) -> None:
        if math.isnan(self.value) != (self.why is not None) or self.value < 0 or self.value > 1:
            raise ValueError(f"{self.value!r}, why={self.why!r}: a metric is in 0..1, or NaN with a reason")

    def __float__(self) -> float:
        return self.value

    @classmethod
    def of(cls, value: float, error_bound: float | None = 0.0) -> "MetricValue":
        """A defined metric.

        Args:
            value: A fraction; sums that rounding has pushed past 0 or 1 are clipped.
            error_bound: As the class has it.
        """
        return cls(min(max(float(value), 0.0), 1.0), None, error_bound)

    @classmethod
    def undefined(cls, why: str) -> "MetricValue":
        """A metric that does not exist for this data, and why."""
        return cls(math.nan, why)

    def to_json(self) -> float | None:
        """The value, or None (JSON null) where undefined: JSON has no NaN."""
        return None if self.why is not None else self.value
