"""What the target holds right now, asked of the connector and keyed by `_target_id`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from sync_platform.model import Field, Repeat, Stream

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Connector


def with_target_id(table: pa.Table, stream: Stream) -> pl.DataFrame:
    """A frame of target rows with `_target_id`: the same text as staging's `_key`, a JSON array for several columns."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    texts = [_key_text(frame[name]) for name in stream.key]
    if len(texts) == 1:
        return frame.with_columns(texts[0].alias("_target_id"))
    rows = zip(*(text.to_list() for text in texts), strict=True)
    ids = [json.dumps(parts, ensure_ascii=False, separators=(",", ":")) for parts in rows]
    return frame.with_columns(pl.Series("_target_id", ids, dtype=pl.String))


def _key_text(column: pl.Series) -> pl.Series:
    """As `staging.fingerprint` writes a key's column."""
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.strftime("%Y-%m-%d %H:%M:%S%.6f" + ("" if column.dtype.time_zone is None else "Z"))
    return column.cast(pl.String)


def target_rows(connector: Connector, stream: Stream, ids: Sequence[str], fields: Sequence[str]) -> pl.DataFrame:
    """The target records of these ids that exist: `_target_id` and `fields`."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return pl.DataFrame(schema={"_target_id": pl.String})
    found = with_target_id(connector.get(stream.name, wanted, list(fields)), stream)
    return found.select("_target_id", *[name for name in fields if name in found.columns])


def folded_fields(connector: Connector, stream: Stream) -> set[str]:
    """The fields the vendor compares without regard to case."""
    schema = connector.discover(stream.name)
    return {field.name for field in map(Field.from_arrow, schema) if field.folded}


def most_telling_first(on: Sequence[str], values: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """The match fields, first the one by which the fewest other records are found: most different values here."""
    if len(on) < 2:
        return tuple(on)
    different = {name: len({value for value in values[name] if value is not None}) for name in on}
    return tuple(sorted(on, key=lambda name: -different[name]))


def match_candidates(
    connector: Connector, stream: Stream, on: Sequence[str], values: Sequence[Any], fields: Sequence[str]
) -> pl.DataFrame:
    """The target records whose first match field has one of `values`: `_target_id`, match fields, `fields`."""
    asked = list(dict.fromkeys(str(value) for value in values if value is not None))
    wanted = list(dict.fromkeys([*on, *fields]))
    if not asked:
        return pl.DataFrame(schema={"_target_id": pl.String})
    found = with_target_id(connector.find(stream.name, on[0], asked, wanted), stream)
    return found.select("_target_id", *[name for name in wanted if name in found.columns])


def find_by_match(
    connector: Connector,
    stream: Stream,
    on: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    fields: Sequence[str],
) -> dict[str, list[str]]:
    """For each row (`_key`, `new:<match field>`): the ids of the target records with the same match values."""
    on = most_telling_first(on, {name: [row[f"new:{name}"] for row in rows] for name in on})
    found = match_candidates(connector, stream, on, [row[f"new:{on[0]}"] for row in rows], fields)
    if found.is_empty():
        return {}
    by_value: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for record in found.to_dicts():
        by_value[tuple(_folded(record.get(name)) for name in on)].append(record["_target_id"])
    known = [row for row in rows if all(row[f"new:{name}"] is not None for name in on)]
    matches = {row["_key"]: by_value.get(tuple(_folded(row[f"new:{name}"]) for name in on), []) for row in known}
    return {key: ids for key, ids in matches.items() if ids}


def can_be_looked_up(stream: Stream, on: Sequence[str], values: Mapping[str, Any]) -> bool:
    """Whether a look-up can tell if a record with these values was created: every match field must have one."""
    return stream.repeat is not Repeat.NONE and bool(on) and all(values.get(name) not in (None, "") for name in on)


def _folded(value: Any) -> str:
    return str(value).strip().casefold()


def same_value(one: Any, other: Any) -> bool:
    """Equal, with null and empty text the same thing (an API answers either for an empty field)."""
    if one in (None, "") and other in (None, ""):
        return True
    return bool(one == other)
