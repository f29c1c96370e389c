"""Image classification: learned from folders of images, or told by names alone."""
