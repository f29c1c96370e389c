"""People's eye movements: read, recorded, learned from, compared with."""
