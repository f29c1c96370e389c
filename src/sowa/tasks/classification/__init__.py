"""Image classification: learned from folders of images, or told by names alone."""

from sowa.tasks.classification.classifier import Classified, Classifier

__all__ = ["Classified", "Classifier"]
