"""One device, one owner."""
