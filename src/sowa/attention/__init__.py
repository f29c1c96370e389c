"""Where people look: fixations, their densities, metrics of saliency maps, simulated observers, and a recorder."""
