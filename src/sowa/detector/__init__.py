"""The detector: references and memory bank, calibration, predictions, its file; and where extensions plug in."""
