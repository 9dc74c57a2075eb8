"""Schema revisions, shipped as ``qxfleet.migrations``."""
