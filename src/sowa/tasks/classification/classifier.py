"""``Classifier``: images in, classes out, learned from folders of images or told by names alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

import torch
from torch import Tensor

from sowa.core.config import Settings, WordsConfig
from sowa.core.progress import Report, silent
from sowa.data.class_folders import HELD_OUT, Folders, Labelled, check_classes, read_folders
from sowa.data.sources import image_sources
from sowa.errors import InputError
from sowa.model.backbone import Backbone
from sowa.model.words import Words
from sowa.tasks.classification.classified import Classified
from sowa.tasks.classification.comparing import LabelledFeatures, uncalibrated
from sowa.tasks.classification.config import ClassifyConfig
from sowa.tasks.classification.learning import ClassifierState, learn
from sowa.tasks.classification.measures import Measured, measure
from sowa.tasks.classification.open_set import EVEN_SHARES, SHARPNESS, named, nearness, others_than
from sowa.tasks.classification.pooled_features import CHUNK, PooledFeatures, encode_chunk
from sowa.tasks.classification.storage import read_classifier, write_classifier
from sowa.tasks.encoding import LevelEncoder

TEMPLATES = ("a photo of a {}", "a picture of a {}", "a close-up of a {}", "the {}", "{}")


class Classifier:
    """Sorts images into classes.

    Args:
        encoder: That reads images.
        names: The classes, where names alone tell.
        templates: Sentences for names; ``{}`` in one is the name.

    Attributes:
        names: The classes.
        learned_: What ``fit`` made of images, None where names alone tell.
        metrics_: Of images held out of ``fit``.
        skipped_: What the last call couldn't read, and why.
    """

    def __init__(self, encoder: LevelEncoder, names: Sequence[str] = (), templates: Sequence[str] = TEMPLATES) -> None:
        self.encoder, self.names = encoder, tuple(names)
        self.config = WordsConfig(templates=tuple(templates), length=0)
        self.learned_: ClassifierState | None = None
        self.metrics_: Measured | None = None
        self.settings = ClassifyConfig()
        self.train_: dict[str, Any] = {}
        self.skipped_: list[tuple[str, str]] = []
        self._others: Tensor | None = None
        self._text = _read(self.names, self.config, encoder.backbone) if names else torch.zeros(0)

    @classmethod
    def from_pretrained(
        cls,
        backbone: str | Backbone = "mini",
        *,
        settings: Settings | None = None,
    ) -> Self:
        """A classifier that knows no class yet.

        Args:
            backbone: As in `sowa.model.pretrained.build_backbone`.
            settings: Device, precision and image size.

        Raises:
            InputError: an unknown backbone, device or precision.
        """
        return cls(LevelEncoder(backbone, settings))

    @classmethod
    def from_names(
        cls,
        names: Sequence[str],
        backbone: str | Backbone = "mini",
        *,
        templates: Sequence[str] = TEMPLATES,
        settings: Settings | None = None,
    ) -> Self:
        """A classifier told by names alone: any words, no image.

        Args:
            names: Of the classes, two or more.
            backbone: As in `sowa.model.pretrained.build_backbone`.
            templates: Sentences for names; ``{}`` in one is the name.
            settings: Device, precision and image size.

        Raises:
            InputError: there are fewer than two names, one twice or empty, or a template isn't understood.
        """
        words = check_classes(names, 2)
        return cls(LevelEncoder(backbone, settings), words, templates)

    def fit(
        self,
        root: str | Path | Folders,
        k_shot: int | None = None,
        seed: int = 0,
        *,
        names: str | Path | None = None,
        held_out: float = HELD_OUT,
        config: ClassifyConfig | None = None,
        batch_size: int = 8,
        report: Report = silent,
    ) -> Self:
        """Learns the classes of a folder of folders, and measures itself on images that it didn't learn from.

        Args:
            root: The folder, or what `read_folders` made of it.
            k_shot: So many images of each class are drawn; None takes all.
            seed: That draws them.
            names: As in `read_folders`.
            held_out: Likewise.
            config: How classes are learned.
            batch_size: So many images are encoded at once.
            report: Told of the progress.

        Raises:
            InputError: as `read_folders` says, or a class has too few readable images.
        """
        folders = root if isinstance(root, Folders) else read_folders(root, names, seed, held_out)
        chosen = folders.train if k_shot is None else folders.train.take(folders.train.shots(k_shot, seed))
        train, test = (LabelledFeatures.of(self.encoder, part, batch_size, report) for part in (chosen, folders.test))
        self.fit_features(train, seed, config, report)
        self.skipped_ = [*train.pooled.skipped, *test.pooled.skipped]
        self.train_ |= {"k_shot": k_shot, "seed": seed}
        self.metrics_ = self._measure(test)
        return self

    def fit_features(
        self, features: LabelledFeatures, seed: int = 0, config: ClassifyConfig | None = None, report: Report = silent
    ) -> Self:
        """The same of images that were looked at already; it measures nothing."""
        self.settings = config or ClassifyConfig(seed=seed)
        names = features.labelled.names
        self.learned_ = learn(features.pooled, features.labels, names, self.encoder.backbone, self.settings, report)
        self.names, self.metrics_ = names, None
        learned = [image.name for image in features.labelled.images]
        self.train_ = {"images": len(learned), "trained": self.learned_.trained, "learned": learned}
        return self

    def unlearned(self, labelled: Labelled) -> Labelled:
        """Those images that it didn't learn from.

        Raises:
            InputError: there is none.
        """
        known = {Path(name).resolve() for name in self.train_.get("learned", ())}
        left = [place for place, each in enumerate(labelled.images) if Path(each.name).resolve() not in known]
        if not left:
            raise InputError(f"all {len(labelled.images)} images were learned from; give others to test on")
        return labelled.take(left)

    def test(self, labelled: Labelled, batch_size: int = 8, report: Report = silent) -> Measured:
        """How well images are sorted whose classes are known.

        Raises:
            InputError: a class can't be read.
        """
        return self.judge(labelled, batch_size, report)[0]

    def judge(
        self, labelled: Labelled, batch_size: int = 8, report: Report = silent
    ) -> tuple[Measured, Labelled, list[Classified]]:
        """As `test`, with the images that could be read and what is said of each."""
        features = LabelledFeatures.of(self.encoder, labelled, batch_size, report)
        self.skipped_ = list(features.pooled.skipped)
        pairs = zip(features.labelled.images, self.logits(features.pooled), strict=True)
        return (
            self._measure(features),
            features.labelled,
            [Classified.of(image.name, logits, self.names) for image, logits in pairs],
        )

    @property
    def temperature(self) -> float:
        """What logits are divided by, 1 where names alone tell."""
        return self.learned_.temperature if self.learned_ else 1.0

    def _measure(self, features: LabelledFeatures) -> Measured:
        return measure(self.logits(features.pooled) * self.temperature, features.labels, self.names, self.temperature)

    @overload
    def predict(
        self, source: Any, *, other: bool = ..., batch_size: int = ..., report: Report = ..., stream: Literal[True]
    ) -> Iterator[Classified]: ...

    @overload
    def predict(
        self,
        source: Any,
        *,
        other: bool = ...,
        batch_size: int = ...,
        report: Report = ...,
        stream: Literal[False] = False,
    ) -> list[Classified]: ...

    def predict(
        self, source: Any, *, other: bool = False, batch_size: int = 8, report: Report = silent, stream: bool = False
    ) -> Iterator[Classified] | list[Classified]:
        """The class of every image of a source.

        Args:
            source: As in ``Sowa.predict``.
            other: Whether an image may be `NONE`.
            batch_size: So many are encoded at once.
            report: Told of the progress.
            stream: Whether they come one by one.

        Raises:
            InputError: the classifier has no classes, or the source no image.
        """
        if not self.names:
            raise InputError("the classifier knows no class; fit it on folders of images, or make it from_names")
        found = self._predict(source, other, batch_size, report)
        return found if stream else list(found)

    def _predict(self, source: Any, other: bool, batch_size: int, report: Report) -> Iterator[Classified]:
        wanted, self.skipped_ = image_sources(source), []
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            pooled = encode_chunk(self.encoder, part, batch_size)
            self.skipped_ += pooled.skipped
            report("classify", start + len(part), len(wanted))
            known = self.knownness(pooled) >= 1 if other else torch.ones(len(pooled.kept), dtype=torch.bool)
            for place, logits, is_known in zip(pooled.kept, self.logits(pooled), known, strict=True):
                yield Classified.of(part[place].name, logits, self.names, bool(is_known))

    @property
    def summary(self) -> dict[str, float | None]:
        """Of images held out of ``fit``: top-1, balanced accuracy and calibration error; empty without any."""
        found = self.metrics_
        return {"top1": found.top1, "balanced": found.balanced, "ece": found.ece} if found else {}

    def save(self, path: str | Path) -> Path:
        """Writes what was learned, with the backbone's identity.

        Raises:
            InputError: nothing was, or it can't be written.
        """
        if self.learned_ is None:
            raise InputError("the classifier learned nothing, so there is nothing to save; fit it first")
        write_classifier(Path(path), self.learned_, self.names, self.encoder, self.settings, self.train_, self.summary)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, backbone: str | None = None, settings: Settings | None = None) -> Self:
        """A classifier that `save` wrote.

        Args:
            path: The file.
            backbone: Stands in for the one that the file names.
            settings: Device and precision.

        Raises:
            InputError: a file that is truncated, not ours, of another version, or made with another backbone.
        """
        encoder, header, config, learned = read_classifier(Path(path), backbone, settings)
        classifier = cls(encoder)
        classifier.names, classifier.learned_, classifier.settings = header.names, learned, config
        classifier.train_ = header.train
        return classifier

    @torch.no_grad()
    def logits(self, pooled: PooledFeatures) -> Tensor:
        """Calibrated logits (N, C) of images that were looked at."""
        if self.learned_ is None:
            return SHARPNESS * pooled.features @ self._text.T
        return uncalibrated(self.learned_, pooled, self.encoder) / self.learned_.temperature

    @torch.no_grad()
    def knownness(self, pooled: PooledFeatures) -> Tensor:
        """How far images (N,) are of any of the classes: 1 is the boundary, less is `NONE`."""
        if self.learned_ is not None:
            learned = self.learned_
            return 1 + nearness(pooled.features, learned.centres, learned.text_centres) - learned.known
        if self._others is None:
            from open_clip import IMAGENET_CLASSNAMES

            vocabulary = tuple(dict.fromkeys(IMAGENET_CLASSNAMES))
            self._others = others_than(self._text, _read(vocabulary, self.config, self.encoder.backbone))
        return named(pooled.features, self._text, self._others) / EVEN_SHARES


@torch.no_grad()
def _read(names: Sequence[str], config: WordsConfig, backbone: Backbone) -> Tensor:
    """Names to unit vectors (C, E) on the CPU, some at a time."""
    words = Words(names, config, backbone).to(next(backbone.parameters()).device)
    parts = [words.read(names[start : start + CHUNK], backbone) for start in range(0, len(names), CHUNK)]
    return torch.cat(parts).float().cpu()
