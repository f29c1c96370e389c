"""``Sowa``: images in, predictions out. The public interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.calibration import (
    Rule,
    at_rate,
    best_cut,
    best_threshold,
    check_rate,
    from_normal,
)
from sowa.core.config import FALSE_POSITIVE_RATE, ModelConfig, SaliencyConfig
from sowa.core.headers import DetectorHeader
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.core.scoring import SELF_BOUNDARY, judge
from sowa.core.types import Calibration, Judged, Judgement, Observation, Sample
from sowa.data.sampling import draw
from sowa.data.stream import ImageSource, image_sources, read_batches, skipped_into
from sowa.data.views import check as check_kinds
from sowa.detector import leave_one_out as collect
from sowa.detector.coreset import CANDIDATES
from sowa.detector.file import read_detector, write_detector
from sowa.detector.prediction import Predictor
from sowa.detector.references import build, cover
from sowa.encoders.devices import Precision
from sowa.encoders.torch_encoder import Encoder
from sowa.errors import InputError
from sowa.extensions.faiss import ApproximateIndex, load_faiss
from sowa.extensions.glances.extension import Glances
from sowa.extensions.names.defects import Defects, example, region
from sowa.extensions.names.namer import Namer
from sowa.model.backbone import fingerprint
from sowa.model.checkpoint import identity, load_namer, pretrained_network, trained_tensors
from sowa.model.sowa import SowaNetwork
from sowa.model.words import check_names

Search = Literal["exact", "faiss"]


class Sowa(Encoder, Predictor):
    """Finds defects in images after seeing a handful of normal ones, or none.

    Attributes that ``fit`` sets: ``bank_`` the memory bank, ``calibration_`` where normal ends, ``references_`` the
    names of the images that were taken, ``augment_`` the kinds of their views in the bank, ``seed_`` the seed that
    drew them. ``defects_`` is what ``name_defects`` sets. ``skipped_`` lists what the last call couldn't read, and why.
    """

    def __init__(
        self,
        network: SowaNetwork,
        *,
        trained: bool,
        device: str = "auto",
        precision: Precision = "auto",
        image_size: tuple[int, int] | None = None,
        tiled: bool = False,
        glances: int | None = None,
        category: str | None = None,
        expected: Sequence[str] = (),
        search: Search = "exact",
    ) -> None:
        if search not in get_args(Search):
            raise InputError(f"search is {search!r}, allowed are {', '.join(get_args(Search))}")
        if search == "faiss":
            load_faiss()  # where it's missing that is said now, not when everything has been encoded
        super().__init__(
            network,
            trained=trained,
            device=device,
            precision=precision,
            image_size=image_size,
            tiled=tiled,
            category=category,
            expected=expected,
        )
        self.search = search
        self.glances = glances
        if glances is not None:
            self._glances(glances)  # raises where it can't be
        self.skipped_: list[tuple[str, str]] = []
        self.forget()

    def forget(self) -> None:
        """Back to a detector that hasn't been fitted."""
        self.bank_: MemoryBank | None = None
        self.calibration_ = self.zero_shot_calibration
        self.references_: list[str] = []
        self.augment_: tuple[str, ...] = ()
        self.seed_: int | None = None
        self.defects_: Defects | None = None
        self.glancer_: Glances | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str = "mini",
        *,
        weights: str | Path | None = None,
        config: ModelConfig | None = None,
        saliency: SaliencyConfig | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        image_size: tuple[int, int] | None = None,
        tiled: bool = False,
        glances: int | None = None,
        category: str | None = None,
        expected: Sequence[str] = (),
        search: Search = "exact",
    ) -> Self:
        """A detector that hasn't been fitted.

        ``name`` is a backbone (see ``sowa.model.pretrained.build_backbone``), or the path of weights that ``sowa
        train`` wrote, which name their backbone. ``weights`` is a checkpoint of the authors for the backbone ``name``.
        Without trained weights the prompts know nothing of defects, so such a detector judges by its memory bank
        alone. ``config`` is needed where it isn't the published one and no file tells it. ``saliency`` adds bottom-up
        attention to the network, which training and distances can use. ``image_size`` is (H, W) in pixels, by default
        the backbone's own. ``tiled`` has a larger image, by default of twice the sides, seen through overlapping
        windows of the backbone's size, for small defects; with ``glances`` through so many of them only, chosen one
        after the other by what was seen so far. ``category`` names the class whose prompts are used where
        there are several; others stand for the first. ``expected`` names defects in any words: what looks like none of
        them then counts less, which helps where images differ beside the part, as on cluttered backgrounds.
        ``search`` "faiss" looks for the nearest normal patch through an approximate index, many times faster with
        hundreds of references.

        Raises InputError for an unknown backbone, device, precision or search, and for a file that doesn't fit.
        """
        network, trained = pretrained_network(name, weights, config, saliency)
        return cls(
            network,
            trained=trained,
            device=device,
            precision=precision,
            image_size=image_size,
            tiled=tiled,
            glances=glances,
            category=category,
            expected=expected,
            search=search,
        )

    @property
    def zero_shot_calibration(self) -> Calibration:
        """Where normal ends without references: a map sums one probability per level, half of that is the boundary.

        An image's own patches add to its score, so for them the boundary lies higher; how much is known of `mini`.
        """
        levels, self_weight = len(self.network.backbone.levels), self.network.config.prompt.self_weight
        threshold, rule = Calibration.threshold, Calibration.rule
        if self_weight:
            threshold, rule = (
                threshold + self_weight * levels * SELF_BOUNDARY,
                "what parts good and bad images of other products",
            )
        return Calibration(threshold=threshold, pixel_threshold=levels / 2, rule=rule)

    @property
    def is_fitted(self) -> bool:
        """Whether there is a memory bank."""
        return self.bank_ is not None

    def fit(
        self,
        normal: Any,
        k_shot: int | None = None,
        seed: int = 0,
        *,
        coreset: bool = False,
        keep: float | None = None,
        augment: str | Sequence[str] = "auto",
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        batch_size: int = 8,
        report: Report = silent,
    ) -> Self:
        """Builds the memory bank and the calibration from normal images; an earlier bank is replaced.

        ``normal`` is a folder, file, glob pattern, PIL image, array (H, W, 3) uint8, tensor (3, H, W) in 0..1, or a
        list of those. ``k_shot`` images are drawn with ``seed``; None takes all. Broken images are skipped and
        the next ones drawn in their place. With ``coreset``, of up to `CANDIDATES` drawn images those ``k_shot`` are
        taken that the others lie nearest to. ``keep`` is the share of each reference's patches that the bank holds, 0
        to 1: those that differ most from what it holds already; by default all of up to 64 references, and of more so
        many that the bank grows no further. ``augment`` names views of the references that are normal too, of
        `sowa.data.views.VIEWS`; "auto" has the references, up to eight, tell which are. A reference with views is held
        as twice as many patches. The thresholds are those that one more normal image exceeds at
        ``false_positive_rate``, as far as can be told: from the images that the coreset left, or else from each of up
        to 64 references left out of the bank in turn, a single one varied.

        Raises InputError where there are fewer than ``k_shot`` readable images, or none; the detector then stays as
        it was.
        """
        _check_fit(k_shot, seed, coreset, keep, false_positive_rate)
        kinds = check_kinds(augment)
        available = image_sources(normal)
        if k_shot is not None and not 1 <= k_shot <= len(available):
            raise InputError(f"k-shot is {k_shot}, allowed is 1 to {len(available)}, the images that there are")
        drawn = draw(available, len(available), seed) if k_shot else available
        skipped: list[tuple[str, str]] = []
        others: list[ImageSource] = []
        self.skipped_ = skipped
        if coreset and k_shot:
            drawn, others, broken = cover(self, drawn, k_shot, batch_size, report)
            skipped += broken
        found = build(self, drawn, k_shot or len(available), batch_size, report, keep, kinds)
        skipped += found.skipped
        if len(found.images) < (k_shot or 1):
            raise InputError(
                f"only {len(found.images)} of {len(available)} images can be read, needed are {k_shot or 1}; first "
                f"problem: {skipped[0][1]}"
            )
        judged, glancer = self._judge_with(found.bank), None
        if self.glances:
            glancer = self._glances(self.glances)
            glancer.fit(found.images, found.bank, found.augment, report)
            judged = glancer.judge
        if len(others) >= len(found.images):  # fewer tell less than the references themselves do
            scores = collect.of_images(judged, others, self.image_size, batch_size, skipped, report)
            calibration = from_normal(scores.raw_scores, scores.map_maxima)
        else:
            calibration = collect.calibration(judged, found.images, self.image_size, seed, report)
        self.bank_ = self._searchable(found.bank)
        self.seed_, self.calibration_ = seed, at_rate(calibration, false_positive_rate)
        self.references_, self.augment_, self.glancer_ = found.names, found.augment, glancer
        self.defects_ = None  # examples were looked at with the bank before
        return self

    def calibrate(
        self,
        normal: Any = None,
        *,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        batch_size: int = 8,
        report: Report = silent,
    ) -> Self:
        """Sets the thresholds anew; the bank stays.

        ``normal`` are normal images that aren't in the bank, as in ``fit``; they tell better than the references do
        where normal ends, and references among them are left out. None keeps what is known of normal images and only
        changes the rate.

        Raises InputError where the rate isn't between 0 and 1, no image can be read, all are references, or no normal
        image was seen.
        """
        check_rate(false_positive_rate)
        calibration = self.calibration_
        if normal is not None:
            self._check_ready()
            self.skipped_ = []
            given = image_sources(normal)
            known = self._reference_paths()
            unseen = [p for p in given if not isinstance(p.origin, Path) or p.origin.resolve() not in known]
            if not unseen:
                raise InputError(f"all {len(given)} images are references; give normal images that aren't")
            scores = collect.of_images(
                self._judge_with(self.bank_), unseen, self.image_size, batch_size, self.skipped_, report
            )
            calibration = from_normal(scores.raw_scores, scores.map_maxima)
        self.calibration_ = at_rate(calibration, false_positive_rate)
        return self

    def calibrate_labelled(
        self,
        samples: Sequence[Sample],
        rule: Rule = "f1",
        *,
        missed_cost: float = 1.0,
        batch_size: int = 8,
        report: Report = silent,
    ) -> Self:
        """Sets the thresholds to what ``rule`` finds best on labelled images; the bank stays.

        All labelled ``samples`` but the references are used, whatever their split. The pixel threshold is the best one
        for pixels where every anomalous image has a mask and the rule isn't recall; otherwise that of the maps'
        highest values. Judge the result on other images than these.

        Raises InputError unless there are normal and anomalous images and ``missed_cost`` is above 0.
        """
        self._check_ready()
        self.skipped_ = []
        known = self._reference_paths()
        unseen = [sample for sample in samples if sample.image_path.resolve() not in known]
        scores = collect.of_samples(
            self._judge_with(self.bank_), unseen, self.image_size, batch_size, self.skipped_, report
        )
        threshold = best_threshold(scores.raw_scores, scores.labels, rule, missed_cost)
        if rule != "recall" and scores.pixels is not None and scores.pixels.n_anomalous:
            pixel_threshold = best_cut(*scores.pixels.counts(), rule, missed_cost)
        else:
            pixel_threshold = best_threshold(scores.map_maxima, scores.labels, rule, missed_cost)
        told = f"{rule} on {len(scores.labels)} labelled images"
        self.calibration_ = replace(self.calibration_, threshold=threshold, pixel_threshold=pixel_threshold, rule=told)
        return self

    def name_defects(
        self, names: Sequence[str], examples: Mapping[str, Any] | None = None, *, batch_size: int = 8
    ) -> Self:
        """Has predictions say which of these ``names`` a defect is likely of, and where: any words, without training.

        ``examples`` are images of some of these defects, as in ``fit``; they tell more than the words do. ``[]`` ends
        it, and so does ``fit``; a saved detector doesn't keep it. Raises InputError where a name is empty or twice,
        examples are of no name, none of them can be read, or the backbone isn't the one that names are told through.
        """
        self._check_ready()
        if self.glances:
            raise InputError("a detector that glances at some tiles can't name defects; fit one without glances")
        if not names and not examples:
            self.defects_ = None
            return self
        words, shown = (
            check_names(names, "defects"),
            {name.strip(): source for name, source in (examples or {}).items()},
        )
        if strange := sorted(shown.keys() - set(words)):
            raise InputError(f"examples are of {strange[0]!r}, which is none of {', '.join(words)}; name it too")
        namer = load_namer(self.network.backbone).to(self.device)
        self.skipped_ = []
        seen = {name: self._example(namer, source, batch_size) for name, source in shown.items()}
        self.defects_ = Defects(words, namer, self.network.backbone, seen)
        return self

    @torch.inference_mode()
    def _example(self, namer: Namer, source: Any, batch_size: int) -> Tensor:
        """What the defects of images look like, (E,)."""
        before, wanted, parts = len(self.skipped_), image_sources(source), list[Tensor]()
        for batch in read_batches(wanted, self.image_size, batch_size, skipped_into(self.skipped_)):
            observation = self.observe(batch.images)
            anomaly_BP = self.judge(observation).by_patch
            parts.append(example(namer, observation.patches, region(anomaly_BP)) * len(batch.sources))
        if not parts:
            raise InputError(f"none of {len(wanted)} examples can be read; first problem: {self.skipped_[before][1]}")
        return F.normalize(torch.stack(parts).sum(dim=0), dim=-1)

    def _aid(self) -> str:
        """SHA-256 of the shipped weights beside the network that its verdicts depend on, empty where there are none."""
        if self.observer.expected:
            return fingerprint(self.observer.expected.namer.state_dict())
        return self.glancer_.settings()["weights_sha256"] if self.glancer_ else ""

    def _glances(self, glances: int) -> Glances:
        """Raises InputError where such a detector can't glance."""
        if self.expected:
            raise InputError("glances know nothing of names of defects; leave out what is expected, or the glances")
        made = Glances(glances)
        made.attach(self)
        return made

    def _reference_paths(self) -> set[Path]:
        return {Path(name).resolve() for name in self.references_}

    def _judge_with(self, bank: MemoryBank | None) -> collect.Judge:
        """Judges images as a prediction does, against ``bank``."""
        if self.glancer_ and bank is self.bank_:
            return self.glancer_.judge
        return lambda images, leave_out: self.judge(self.observe(images), bank, leave_out)

    def _searchable(self, bank: MemoryBank) -> MemoryBank:
        if self.search == "faiss":
            bank.index = ApproximateIndex(bank.features)
        return bank

    def _boundary(self) -> Calibration:
        return self.calibration_

    def _judged(self, images: NDArray[np.uint8]) -> Judged:
        if self.glancer_:
            return self.glancer_.judge(images).numpy()
        observation = self.observe(images)
        judgement = self.judge(observation)
        if self.defects_ is None:
            return judgement.numpy()
        named = self.defects_(observation.patches, judgement.by_patch, observation.grid)
        return judgement.numpy()._replace(named=named.numpy())

    def _check_ready(self) -> None:
        if not self.is_fitted and not self.trained:
            raise InputError(
                f"backbone {self.network.backbone.name!r} has no trained prompts and no memory bank; fit the detector "
                "on normal images first"
            )

    @torch.inference_mode()
    def judge(
        self, observation: Observation, bank: MemoryBank | None = None, leave_out: int | None = None
    ) -> Judgement:
        """Raw scores and maps of what was observed, against ``bank`` or else the fitted one, or zero-shot.

        ``leave_out`` is the number of a reference that the images aren't compared with.
        """
        bank, distances = self.bank_ if bank is None else bank, None
        if bank is not None:
            left_out = None
            if leave_out is not None:
                left_out = torch.full((len(observation.patches[0]),), leave_out, device=self.device)
            distances = bank.distances(observation.patches, left_out, self.precision)
        return judge(observation, distances, self.network.config)

    def save(self, path: str | Path) -> Path:
        """Writes the fitted detector: bank, calibration, what was trained, and the backbone's identity, not itself.

        Returns the path. Raises InputError where the detector isn't fitted or the file can't be written.
        """
        if self.bank_ is None:
            raise InputError("the detector isn't fitted, so there is nothing to save; fit it first")
        header = DetectorHeader(
            config=self.network.config,
            backbone=identity(self.network.backbone),
            trained=self.trained,
            image_size=self.image_size,
            tiled=self.tiled,
            glances=self.glances,
            category=self.category,
            expected=self.expected,
            aid=self._aid(),
            calibration=self.calibration_,
            references=self.references_,
            augment=self.augment_,
            seed=self.seed_,
        )
        trained = trained_tensors(self.network)
        if not self.trained:  # but what stands out may be told by a CNN's weights
            trained = {name: tensor for name, tensor in trained.items() if name.startswith("saliency.")}
        known = self.glancer_.tensors() if self.glancer_ else {}
        write_detector(Path(path), header, self.bank_.features, trained, known)
        return Path(path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        backbone: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        search: Search = "exact",
    ) -> Self:
        """A detector that ``save`` wrote.

        The file names its backbone, which is built as in ``from_pretrained``; ``backbone`` names it otherwise, where a
        file has moved or the name in the file isn't to be followed. ``search`` as in ``from_pretrained``.

        Raises InputError for a file that is truncated, not ours, of another version, or made with another backbone.
        """
        header, network, bank, known = read_detector(Path(path), backbone)
        detector = cls(
            network,
            trained=header.trained,
            device=device,
            precision=precision,
            image_size=header.image_size,
            tiled=header.tiled,
            glances=header.glances,
            category=header.category,
            expected=header.expected,
            search=search,
        )
        detector.bank_ = detector._searchable(MemoryBank(bank.to(detector.device)))
        if header.glances:
            detector.glancer_ = detector._glances(header.glances)
            settings = {"glances": header.glances, "weights_sha256": header.aid}
            detector.glancer_.restore(settings, known, detector.bank_)
        if detector._aid() != header.aid:
            raise InputError(
                f"{path} was made with other weights for names or glances than this version's; fit it anew"
            )
        detector.calibration_ = header.calibration
        detector.references_, detector.seed_, detector.augment_ = header.references, header.seed, header.augment
        return detector


def _check_fit(k_shot: int | None, seed: int, coreset: bool, keep: float | None, false_positive_rate: float) -> None:
    check_rate(false_positive_rate)
    if keep is not None and not 0 < keep <= 1:
        raise InputError(f"keep is {keep}, allowed is above 0 up to 1, the share of patches that the bank holds")
    if seed < 0:
        raise InputError(f"seed is {seed}, allowed is 0 and more")
    if coreset and (k_shot is None or k_shot > CANDIDATES):
        raise InputError(f"coreset chooses 1 to {CANDIDATES} references, but k-shot is {k_shot}; say how many")
