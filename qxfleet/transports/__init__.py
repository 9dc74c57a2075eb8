"""How bytes get to a device: send one request, return one reply. Knows no dialect."""
