"""Training of what sits on the frozen backbone: loop, losses, checkpoints."""
