"""What plugs into a detector (`sowa.detector.extension`). Nothing in the core knows any of it."""
