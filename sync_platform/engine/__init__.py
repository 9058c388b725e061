"""The engine: pure functions over frames, and the delivery that acts on what they decided."""
