"""Glances: of a large image an overview and a few tiles are encoded, which a learned policy chooses one by one.

docs/GLANCES.md tells the method. Read the files in this order; each imports only from those before it:

1. ``tiles``: where tiles lie, the encoder of overviews and tiles, and how tiles join.
2. ``features``: what is usual of references, and what the policy observes by it.
3. ``references``: banks of references, whole, in tiles and by the first layers.
4. ``game``: the state of one image, live or replayed, and its recording.
5. ``policy``: the network that chooses the next tile, and its file.
6. ``extension``: `Glances`, which plugs into a detector.

``pretrain/glances.py`` makes the policy.
"""
