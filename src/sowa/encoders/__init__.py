"""Images to features: a frozen network at work, in torch or as a graph in an engine."""
