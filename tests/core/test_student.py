"""Student's t in its closed form, against SciPy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtr, stdtrit

from sowa.core import student


@given(freedom=st.integers(1, 500), t=st.floats(-40, 40))
def test_the_distribution_is_scipys_also_far_out(freedom: int, t: float) -> None:
    assert student.cumulative(freedom, t) == pytest.approx(stdtr(freedom, t), rel=1e-9, abs=1e-300)


@given(freedom=st.integers(1, 500), share=st.floats(1e-6, 0.5))
def test_the_quantile_is_scipys(freedom: int, share: float) -> None:
    assert student.quantile(freedom, share) == pytest.approx(stdtrit(freedom, share), rel=1e-9, abs=1e-9)


@given(freedom=st.integers(1, 200), t=st.floats(0, 30))
def test_it_is_even_and_rises(freedom: int, t: float) -> None:
    assert student.cumulative(freedom, t) + student.cumulative(freedom, -t) == pytest.approx(1)
    assert student.cumulative(freedom, t + 0.5) >= student.cumulative(freedom, t)
