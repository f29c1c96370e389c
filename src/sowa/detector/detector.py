"""``Sowa``: images in, predictions out. The public interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from sowa.core.calibration import Calibration, from_normal
from sowa.core.config import ModelConfig, Settings
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource, image_sources
from sowa.data.views import check as check_views
from sowa.detector.calibrated import CalibratedDetector
from sowa.detector.coreset import CANDIDATES
from sowa.detector.extension import Extension, find
from sowa.detector.file import DetectorFile, DetectorHeader, read_detector, write_detector
from sowa.detector.image_size import at_suited_size
from sowa.detector.leave_one_out import Judge, calibrate_on_references, score_damaged, score_images
from sowa.detector.references import FeatureCache, References, Selection, build, check_bank, cover
from sowa.encoders.base import Encoder
from sowa.errors import InputError


class Sowa(CalibratedDetector):
    """Finds defects in images after seeing a handful of normal ones, or none.

    Args:
        encoder: Images to features.
        extensions: What plugs in, see `sowa.detector.extension`.

    Attributes:
        encoder: As given.
        extensions: As given.
        annotators: Say more of images that are judged; `fit` ends them.
        bank_: The memory bank, None before `fit`.
        calibration_: Where normal ends.
        references_: Names of the images that were taken.
        augment_: The kinds of their views in the bank.
        seed_: The seed that drew them.
        skipped_: Names of the images that the last call couldn't read, and why.

    Raises:
        InputError: an extension can't be used with this encoder or with another one.
    """

    def __init__(self, encoder: Encoder, extensions: Sequence[Extension] = ()) -> None:
        super().__init__(encoder, extensions)
        self.augment_: tuple[str, ...] = ()
        self.seed_: int | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str = "mini",
        *,
        weights: str | Path | None = None,
        config: ModelConfig | None = None,
        settings: Settings | None = None,
        extensions: Sequence[Extension] = (),
    ) -> Self:
        """A detector that hasn't been fitted.

        Without trained weights the prompts know nothing of defects, so such a detector judges by its memory bank alone.

        Args:
            name: A backbone (see `sowa.model.pretrained.build_backbone`), or the path of weights that ``sowa train``
                wrote, which name their backbone.
            weights: A checkpoint of the authors for the backbone ``name``.
            config: The network's, where it isn't the published one and no file tells it.
            settings: Device, precision, image size, tiling, category, search.
            extensions: What plugs in, see `sowa.detector.extension`.

        Raises:
            InputError: an unknown backbone, device, precision or search, or a file that doesn't fit.
        """
        from sowa.encoders.torch_encoder import TorchEncoder

        return cls(TorchEncoder.from_pretrained(name, weights=weights, config=config, settings=settings), extensions)

    def fit(
        self,
        normal: Any,
        k_shot: int | None = None,
        seed: int = 0,
        *,
        coreset: bool = False,
        patch_fraction: float | None = None,
        augment: str | Sequence[str] = "auto",
        batch_size: int = 8,
        report: Report = silent,
    ) -> Self:
        """Builds the memory bank and the calibration from normal images; an earlier bank is replaced.

        Where the settings leave it open, the images' own sizes tell at which size they are seen
        (`sowa.detector.image_size`).

        The thresholds lie where a good and a bad image are equally likely, as many other products taught
        (`sowa.core.decision`): above what normal images show, those that the coreset left or else up to 64 references
        left out of the bank in turn, a single one varied, and below what generated damage on references shows.
        `calibrate` sets them otherwise.

        Args:
            normal: A folder, file, glob pattern, PIL image, array (H, W, 3) uint8, tensor (3, H, W) in 0..1, or a list
                of those.
            k_shot: So many are drawn, in place of broken ones the next; None takes all.
            seed: That draws them.
            coreset: Whether, of up to `CANDIDATES` drawn images, those are taken that the others lie nearest to.
            patch_fraction: Share of each reference's patches that the bank holds, above 0 up to 1: those that differ
                most from what it holds already. None means all of up to 64 references of 384 x 384 pixels, or
                23 of 640 x 640, and of more so many that the bank grows no further.
            augment: Kinds of views of the references that are normal too, of `sowa.data.views.VIEWS`; "auto" has the
                references, up to eight, tell which are. A reference with views is held as twice as many patches.
            batch_size: So many images are encoded at once.
            report: Told of the progress.

        Raises:
            InputError: there are fewer than ``k_shot`` readable images, or none; the detector stays as it was.
        """
        _check_fit(k_shot, seed, coreset, patch_fraction)
        kinds, available = check_views(augment), image_sources(normal)
        if k_shot is not None and not 1 <= k_shot <= len(available):
            raise InputError(f"k-shot is {k_shot}, allowed is 1 to {len(available)}, the images that there are")
        drawn = draw(available, len(available), seed) if k_shot else available
        selection = Selection(k_shot or len(available), batch_size, patch_fraction, kinds, seed)
        before = self.encoder
        self.encoder = at_suited_size(before, available)
        try:
            self._fit(drawn, selection, k_shot, coreset, report)
        except BaseException:
            self.encoder = before
            raise
        return self

    def _fit(
        self,
        drawn: Sequence[ImageSource],
        selection: Selection,
        k_shot: int | None,
        coreset: bool,
        report: Report,
    ) -> None:
        others: list[ImageSource] = []
        self.skipped_ = skipped = list[tuple[str, str]]()
        available, batch_size, seed = len(drawn), selection.batch_size, selection.seed
        if coreset and k_shot:
            drawn, others, broken = cover(self.encoder, drawn, k_shot, batch_size, report)
            skipped += broken
        cache = FeatureCache(self.encoder, enabled=False)
        found = build(self.encoder, drawn, selection, report, cache)
        skipped += found.skipped
        if len(found.images) < (k_shot or 1):
            raise InputError(
                f"only {len(found.images)} of {available} images can be read, needed are {k_shot or 1}; first "
                f"problem: {skipped[0][1]}"
            )
        judge = self._judge_with(found.bank, batch_size, report, cache.encoded.take)
        calibration = self._calibrate_on(found, others, seed, judge)
        self.bank_ = self._searchable(found.bank)
        self.seed_, self.calibration_ = seed, calibration
        self.references_, self.augment_ = found.names, found.augment
        self.annotators = []  # what they have looked at was judged with the bank before

    def _calibrate_on(self, found: References, others: Sequence[ImageSource], seed: int, judge: Judge) -> Calibration:
        """What new references tell of normal, or else the ``others`` where those are at least as many."""
        if self.image_judge:
            self.image_judge.fit(found.images, found.bank, found.augment, judge.report)
        if len(others) >= len(found.images):  # fewer tell less than the references themselves do
            scores = score_images(judge, others, self.skipped_)
            damaged = score_damaged(judge, found.images, seed)
            return from_normal(scores.raw_scores, scores.map_maxima, damaged)
        return calibrate_on_references(judge, found.images, seed)

    def save(self, path: str | Path) -> Path:
        """Writes the fitted detector: bank, calibration, what was trained, extensions, and the backbone's identity.

        Args:
            path: The file.

        Returns:
            The path.

        Raises:
            InputError: the detector isn't fitted, or the file can't be written.
        """
        if self.bank_ is None:
            raise InputError("the detector isn't fitted, so there is nothing to save; fit it first")
        encoder, settings = self.encoder, self.encoder.settings
        header = DetectorHeader(
            config=encoder.config,
            backbone=encoder.identity,
            trained=encoder.trained,
            image_size=encoder.image_size,
            tiled=settings.tiled,
            category=settings.category,
            calibration=self.calibration_,
            references=self.references_,
            seed=self.seed_,
            augment=self.augment_,
            weights=self.bank_.weights,
            zero_shot_weight=self.bank_.zero_shot_weight,
            extensions={extension.name: extension.settings() for extension in self.extensions},
        )
        known = {extension.name: extension.tensors() for extension in self.extensions}
        write_detector(Path(path), DetectorFile(header, self.bank_.features, encoder.tensors(), known))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, backbone: str | None = None, settings: Settings | None = None) -> Self:
        """A detector that `save` wrote.

        Args:
            path: The file. It names its backbone, which is built as in `from_pretrained`.
            backbone: Names it otherwise, where a file has moved or the name in the file isn't to be followed.
            settings: Device, precision and search; all else is the file's.

        Raises:
            InputError: the file is truncated, not ours, of another version, made with another backbone, or with an
                extension that isn't here.
        """
        from sowa.encoders.torch_encoder import TorchEncoder

        file, chosen = read_detector(Path(path)), settings or Settings()
        header = file.header
        if chosen != replace(chosen, image_size=None, tiled=False, category=None):
            raise InputError(f"{path} has its own image size, tiles and category; leave them out of the settings")
        encoder = TorchEncoder.restore(
            header.config,
            header.backbone,
            file.network,
            trained=header.trained,
            settings=replace(chosen, image_size=header.image_size, tiled=header.tiled, category=header.category),
            source=Path(path),
            backbone=backbone,
        )
        check_bank(file, encoder, Path(path))
        try:
            extensions = [find(name).from_settings(own) for name, own in header.extensions.items()]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        detector = cls(encoder, extensions)
        bank = MemoryBank(encoder.place(file.bank), header.weights, header.zero_shot_weight)
        _restore_extensions(detector, file, bank, Path(path))
        detector.bank_, detector.calibration_ = detector._searchable(bank), header.calibration
        detector.references_, detector.seed_, detector.augment_ = header.references, header.seed, header.augment
        return detector


def _restore_extensions(detector: Sowa, file: DetectorFile, bank: MemoryBank, path: Path) -> None:
    for extension in detector.extensions:
        try:
            extension.restore(file.header.extensions[extension.name], file.extensions[extension.name], bank)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _check_fit(k_shot: int | None, seed: int, coreset: bool, patch_fraction: float | None) -> None:
    if patch_fraction is not None and not 0 < patch_fraction <= 1:
        raise InputError(f"patch fraction is {patch_fraction}, allowed is above 0 up to 1")
    if seed < 0:
        raise InputError(f"seed is {seed}, allowed is 0 and more")
    if coreset and (k_shot is None or k_shot > CANDIDATES):
        raise InputError(f"coreset chooses 1 to {CANDIDATES} references, but k-shot is {k_shot}; say how many")
