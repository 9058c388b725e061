"""Variables of the environment as a connection's fields."""

from __future__ import annotations

import dagster as dg


class OptionalEnvVar(dg.EnvVar):
    """A variable that may be unset or empty: its field then keeps its default. `EnvVar` is for what must be set."""
