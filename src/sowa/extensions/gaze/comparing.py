"""A network's attention beside what it must beat and what it can hardly reach, on images that people looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sowa.core.progress import Report, silent
from sowa.extensions.gaze.baselines import CentreBias, human_consistency, uniform
from sowa.extensions.gaze.density import SIGMA_DEGREES, Density
from sowa.extensions.gaze.fixations import Gaze
from sowa.extensions.gaze.learning import Watched
from sowa.extensions.gaze.metrics import GazeMetrics, gaze_metrics

Predict = Callable[[Watched], Density]


def baselines(training: Sequence[Watched] = ()) -> dict[str, Predict]:
    """Maps that know nothing of the image, by name.

    Args:
        training: The centre's is fitted to their fixations where given.
    """
    viewings = tuple(viewing for each in training for viewing in each.viewings)
    sizes = {each.name: each.size for each in training}
    centre = CentreBias.fit(Gaze(viewings), sizes) if viewings else CentreBias()
    return {
        "everywhere alike": lambda watched: uniform(watched.size),
        "the centre": lambda watched: centre.density(watched.size),
    }


def compare(
    watched: Sequence[Watched],
    predictions: Mapping[str, Predict],
    pixels_per_degree: float,
    sigma: float = SIGMA_DEGREES,
    report: Report = silent,
) -> dict[str, GazeMetrics]:
    """The mean metrics over images of each map, and last of other people's looking.

    Args:
        watched: The images.
        predictions: What makes each map, by name.
        pixels_per_degree: As for the densities of ``watched``.
        sigma: Likewise.
        report: Told of the progress.
    """
    found: dict[str, list[GazeMetrics]] = {name: [] for name in (*predictions, "other people")}
    for done, each in enumerate(watched, start=1):
        for name, predict in predictions.items():
            found[name].append(gaze_metrics(predict(each), each.fixations, each.density))
        found["other people"].append(human_consistency(each.viewings, each.size, pixels_per_degree, sigma))
        report("compare", done, len(watched))
    return {name: GazeMetrics.mean(values, "no image") for name, values in found.items()}
