"""The same network on other tasks: object detection and image classification."""
