"""The method on arrays: records, settings, memory bank, scores, maps, calibration. Knows no files of users and no
network."""
