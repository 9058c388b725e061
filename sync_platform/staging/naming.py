"""dlt naming convention that keeps every identifier as the vendor spells it."""

from __future__ import annotations

from dlt.common.normalizers.naming.naming import NamingConvention as BaseNamingConvention


class NamingConvention(BaseNamingConvention):
    """Changes nothing: case, spaces, quotes and emoji stay; DuckDB quotes what needs it."""

    PATH_SEPARATOR = "\x1f"

    def normalize_identifier(self, identifier: str) -> str:
        """The identifier as it is."""
        return identifier

    @property
    def is_case_sensitive(self) -> bool:
        """True: names are not folded."""
        return True
