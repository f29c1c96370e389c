"""Image classification: learned from folders of pictures, or told by names alone."""

from sowa.tasks.classification.classifier import Classified, Classifier

__all__ = ["Classified", "Classifier"]
