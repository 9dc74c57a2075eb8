"""TOML files read into one frozen :class:`~qxfleet.config.load.Config`, or every mistake in them at once."""
