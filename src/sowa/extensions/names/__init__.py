"""Defects by their names: what one is likely called, and which are expected."""
