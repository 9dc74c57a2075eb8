"""Configuration files of Network UPS Tools, read in order to be carried over."""
