"""Detectors for where torch isn't: one graph that holds network, prompts, memory bank and scoring."""

from sowa.export.write import FORMATS, PRECISIONS, export

__all__ = ["FORMATS", "PRECISIONS", "export"]
