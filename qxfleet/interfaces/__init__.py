"""Faces of the fleet: they read states and the store, give orders through the one door, and nobody imports them."""
