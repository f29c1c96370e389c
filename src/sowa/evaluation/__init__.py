"""Accuracy on labelled data sets: one, or the published benchmark."""
