"""Object detection: boxes with names from the frozen levels, trained on a user's own images."""
