"""The JSON API under ``/api/v1/``: one file per noun, each with a ``router``."""
