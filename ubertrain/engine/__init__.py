"""torch runs a schedule."""
