"""A second truth for the judgement of batteries, which shares no line with the package's own simulated years."""
