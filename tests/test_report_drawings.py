"""Outlines and plots of the report."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from sowa.metrics import Curve
from sowa.report import Plot
from sowa.report.charts import curve_plot, histogram
from sowa.report.thumbnails import outline


def test_outlines_are_where_the_mask_is() -> None:
    mask = np.zeros((100, 200), bool)
    assert outline(mask) == ""
    mask[20:61, 100:181] = True
    corners = {tuple(map(int, pair.split())) for pair in re.findall(r"M(\d+ \d+)", outline(mask))}
    assert corners == {(502, 205)}
    assert outline(mask) == "M502 205l0 400 400 0 0 -400z"
    mask[30:50, 120:160] = False
    assert outline(mask).count("M") == 2  # a hole has an outline of its own


def test_the_histogram_counts_every_image_on_its_side_of_the_threshold() -> None:
    rng = np.random.default_rng(0)
    normal, anomalous = [*rng.uniform(0.5, 1, 40), 1.0, 0.0], [*rng.uniform(1.0001, 3, 30), 1e9]
    drawn = str(histogram(normal, anomalous, labelled=False))
    bars = re.findall(r"<title>([\d.e+-]+) to ([\d.e+-]+) × threshold: (\d+) (\w+)</title>", drawn)
    for kind, count in (("normal", 42), ("anomalous", 31)):
        assert sum(int(bar[2]) for bar in bars if bar[3] == kind) == count
    assert all(float(high) <= 1 for _, high, _, kind in bars if kind == "normal")
    assert all(float(low) >= 1 for low, _, _, kind in bars if kind == "anomalous")


def test_a_threshold_has_a_place_only_on_its_own_curve() -> None:
    plot = Plot("ROC", Curve(np.array([0.0, 1.0]), np.array([0.0, 1.0])), "area", point=True)
    assert "circle" in curve_plot(plot, (0.5, 0.5))
    assert "circle" not in curve_plot(replace(plot, point=False), (0.5, 0.5))
