"""Large images seen as a whole and then through some of their tiles, which a learned policy chooses one by one.

`look` is the way in, `Known` what a detector learns of its references for it. ``environment`` and ``train``, which made
the policy, need the extra ``rl``; looking doesn't.
"""
