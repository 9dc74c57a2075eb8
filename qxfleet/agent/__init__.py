"""The fleet: all devices, what they mean together, and the one door for orders."""
