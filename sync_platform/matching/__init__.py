"""Which unlinked target record a new source record probably is: for a person to decide."""
