"""What HubSpot must be given."""

import pandera.polars as pa

EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s.]+$"
LIFECYCLE_STAGES = [
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
]


class Contact(pa.DataFrameModel):
    """A contact that marketing can use."""

    email: str = pa.Field(str_matches=EMAIL, description="a valid e-mail address")
    lifecyclestage: str = pa.Field(isin=LIFECYCLE_STAGES)
