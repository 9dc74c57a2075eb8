"""Simulated voltronic units, written from the protocol's description, not from our tables (voltronic.md)."""
