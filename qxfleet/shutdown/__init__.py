"""Staged shutdown of what hangs on the fleet, and its ordered return."""
