"""Nouns of the domain; standard library only."""
