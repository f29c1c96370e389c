"""The network: a frozen backbone read at four levels, window adapters, prompts, alignment, maps."""
