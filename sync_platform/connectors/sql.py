"""What connectors of SQL databases share: tables described, keys as text, filters translated, parts split."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field as Setting

from sync_platform.connectors.key_text import column_texts, joined
from sync_platform.errors import ConfigError, RecordError
from sync_platform.model import Field, Op, Status

#: The columns of what `write_bulk` answers.
OUTCOMES: Final = pa.schema(
    [
        ("_key", pa.string()),
        ("_target_id", pa.string()),
        ("_status", pa.string()),
        ("_field", pa.string()),
        ("_reason", pa.string()),
    ]
)

#: Values that some databases hold and others refuse (`Field.odd`, `Field.refuses`).
NOT_FINITE: Final = "numbers that are not finite"
ZERO_BYTES: Final = "texts with a zero byte"
ODD_UUIDS: Final = "uuids of no variant of RFC 4122"
_MICROS: Final = 6
#: Texts of numbers, finite or not, and of times with so many digits behind the point (zeros at the end do not count).
_NUMBERS: Final = r"^\s*[+-]?(\d+(\.\d{{0,{digits}}}0*)?|\.\d{{0,{digits}}}0*|[a-zA-Z]+)\s*$"
_TIMES: Final = r"^[^.]*(\.\d{{0,{digits}}}0*([^\d.][^.]*)?)?$"


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_time(kind))


class TableOptions(dg.Config):
    """What a person says about one table or view; everything has a default taken from the catalogue."""

    key: list[str] = Setting(default_factory=list, description="Columns that identify a row. Default: the primary key.")
    cursor: str | None = Setting(
        default=None,
        description="Column that grows with every change. Default: updated_at or the like; '' turns it off.",
    )
    lag_seconds: float = Setting(
        default=300.0,
        description="How much older than the newest seen value a row may be when it appears late.",
    )
    timezone: str | None = Setting(
        default=None, description="Zone of the table's timestamps without zone, e.g. Europe/Berlin."
    )
    tombstone: str | None = Setting(
        default=None, description="Column that marks a deleted row: true, or a time. Deletes then set it."
    )
    as_text: list[str] = Setting(default_factory=list, description="Columns to read as the database prints them.")
    query: str | None = Setting(
        default=None, description="A SELECT that the stream is made of, instead of a table; it needs a `key`."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table, as the catalogue describes it."""

    name: str
    type: str  # the database's type name without length, domains resolved
    declared: str  # the type as declared, e.g. character varying(40)
    cast: str  # the type to cast to: without a length, which a cast would silently cut to
    arrow: pa.DataType
    expression: str  # what to select so that it arrives as `arrow`
    not_null: bool = False
    default: str | None = None  # SQL; for identity columns the call that draws the next number
    readonly: bool = False
    unique: bool = False
    indexed: bool = False  # leads an index
    folded: bool = False
    values: tuple[str, ...] = ()
    max_length: int | None = None
    max_bytes: int | None = None
    fraction: int = 6  # digits of a second that a time keeps
    form: str = ""  # what a text must be written like, e.g. uuid
    decimals: int | None = None  # that a number read as text keeps
    rounds: bool = False  # does the database store a value that is too fine as another one?
    comment: str = ""
    made_by: str = ""  # see `Field`

    def field(self) -> Field:
        """The column as the platform's field."""
        return Field(
            name=self.name,
            type=self.arrow,
            readonly=self.readonly,
            required=self.not_null and self.default is None and not self.readonly,
            unique=self.unique,
            folded=self.folded,
            values=self.values,
            max_length=self.max_length,
            max_bytes=self.max_bytes,
            fraction=self.fraction if _is_time(self.arrow) and self.fraction < _MICROS else None,
            form=self.form,
            label=self.comment,
            made_by=self.made_by,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table or view with what the connector decided about it."""

    schema: str
    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    cursor: str | None
    options: TableOptions
    row_versions: bool  # do its rows carry the transaction that wrote them?
    writable: bool
    plain_inserts: bool  # does an inserted row arrive as given (a real table, no trigger before inserts)?
    query: str | None = None  # what it is made of, where it is no table or view of the database

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.query is None else f"the query {self.name}"

    def column(self, name: str) -> Column:
        """The column of that name; ConfigError with the nearest names otherwise."""
        try:
            return self.columns[name]
        except KeyError:
            raise ConfigError(
                f"{self} has no column {name!r}",
                field=name,
                value=name,
                mend=did_you_mean(name, self.columns),
            ) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the known words nearest to `name`."""
    words = sorted(known)
    near = difflib.get_close_matches(name.lower(), [w.lower() for w in words], n=3, cutoff=0.6)
    same = [w for w in words if w.lower() in near]
    if same:
        return "did you mean " + " or ".join(same) + "?"
    shown = ", ".join(words[:20]) or "nothing"
    return f"known are: {shown}" + (", …" if len(words) > 20 else "")


def key_texts(columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """The key of each row as text: the value's own, or a JSON array of texts for several columns."""
    texts = [column_texts(column) for column in columns]
    if len(texts) == 1:
        return texts[0].combine_chunks() if isinstance(texts[0], pa.ChunkedArray) else texts[0]
    rows = zip(*(text.to_pylist() for text in texts), strict=True)
    return pa.array([joined(parts) for parts in rows], pa.string())


def key_parts(key: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The reverse of `key_texts` for one key; RecordError when the parts do not fit the columns."""
    if len(columns) == 1:
        return (key,)
    try:
        parts = json.loads(key)
    except ValueError:
        parts = None
    if not isinstance(parts, list) or len(parts) != len(columns):
        raise RecordError(f"{key!r} is not a key of {', '.join(columns)}; wanted a JSON array of {len(columns)} values")
    return tuple(part if isinstance(part, str) else json.dumps(part) for part in parts)


def translate(predicate: str, table: Table, dialect: str) -> str:
    """A SQL predicate over the table's columns, in the database's own dialect, every name quoted.

    Column names are matched without regard to case. Raises ConfigError for what does not parse, for
    unknown columns and for anything that is not a plain predicate (a sub-select).
    """
    import sqlglot  # a read without a filter need not wait for it
    from sqlglot import exp

    try:
        tree = sqlglot.parse_one(predicate, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise ConfigError(
            f"{table}: the filter {predicate!r} is not SQL: {str(error).splitlines()[0]}",
            field="filter",
            value=predicate,
            mend="write a predicate over the table's columns, e.g. status = 'active'",
        ) from None
    if tree.find(exp.Query, exp.Command, exp.DDL, exp.DML) is not None:
        raise ConfigError(
            f"{table}: the filter {predicate!r} is more than a predicate",
            field="filter",
            value=predicate,
            mend="use columns of this table, values and functions only",
        )
    folded = {name.lower(): name for name in table.columns}
    for column in tree.find_all(exp.Column):
        name = table.column(folded.get(column.name.lower(), column.name)).name
        column.replace(exp.Column(this=exp.to_identifier(name, quoted=True)))
    return tree.sql(dialect=dialect)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one row was refused: the column, when the database named it, and the reason."""

    field: str | None
    reason: str
    passing: bool = False  # it may be taken later, as it is


def isolate(
    low: int, high: int, attempt: Callable[[int, int], Refusal | None], refuse: Callable[[int, Refusal], None]
) -> None:
    """Applies the rows `low..high` (exclusive), splitting in halves until each refused row stands alone.

    `attempt` applies a range entirely or not at all and answers why not; `refuse` is told the index
    and the reason of every row that alone was refused.
    """
    ranges = [(low, high)]
    while ranges:
        start, end = ranges.pop()
        refusal = attempt(start, end)
        if refusal is None:
            continue
        if end - start == 1:
            refuse(start, refusal)
            continue
        middle = (start + end) // 2
        ranges += [(middle, end), (start, middle)]


def all_applied(rows: pa.Table, targets: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The outcomes of a part whose every row was written."""
    nothing = pa.nulls(rows.num_rows, pa.string())
    applied = pa.repeat(pa.scalar(Status.APPLIED.value, pa.string()), rows.num_rows)
    return pa.table([rows["_key"].cast(pa.string()), targets, applied, nothing, nothing], schema=OUTCOMES)


@dataclass(slots=True)
class PartOutcome:
    """The outcomes of one part, row by row, while it is being written."""

    keys: list[str]
    targets: list[str | None]
    statuses: list[str]
    fields: list[str | None]
    reasons: list[str | None]

    @classmethod
    def of(cls, rows: pa.Table) -> PartOutcome:
        """All rows of a part, applied until something else is known."""
        count = rows.num_rows
        return cls(
            keys=rows["_key"].to_pylist(),
            targets=rows["_target_id"].cast(pa.string()).to_pylist()
            if "_target_id" in rows.column_names
            else [None] * count,
            statuses=[Status.APPLIED.value] * count,
            fields=[None] * count,
            reasons=[None] * count,
        )

    def settle(self, row: int, status: Status, refusal: Refusal | None = None) -> None:
        """Records what became of one row."""
        self.statuses[row] = status.value
        if refusal is not None:
            self.fields[row], self.reasons[row] = refusal.field, refusal.reason

    def table(self) -> pa.Table:
        """The outcomes as `write_bulk` answers them."""
        return pa.table([self.keys, self.targets, self.statuses, self.fields, self.reasons], schema=OUTCOMES)


def refusals_before_sending(table: Table, op: Op, rows: pa.Table) -> dict[int, Refusal]:
    """Rows that the table's own description already rules out, by index, with column and reason.

    Checked here over whole columns, these usual mistakes never cost a round of splitting.
    """
    found: dict[int, Refusal] = {}

    def mark(mask: pa.Array | pa.ChunkedArray, field: str | None, reason: str) -> None:
        for row in pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist():
            found.setdefault(row, Refusal(field, reason))

    if op is not Op.CREATE:
        mark(pc.is_null(rows["_target_id"]), None, f"no target id was given for the {op.value}")
    if op not in (Op.CREATE, Op.UPDATE):
        return found
    for name in rows.column_names:
        if name in ("_key", "_target_id"):
            continue
        column, values = table.column(name), rows[name]
        if column.not_null and values.null_count:
            mark(pc.is_null(values), name, f"{name} is empty, and {table} requires it")
        if _is_time(values.type) and column.fraction < _MICROS:
            mark(_finer(values, column.fraction), name, f"{name} is finer than {column.declared} keeps")
        if not pa.types.is_string(values.type) and not pa.types.is_large_string(values.type):
            continue
        if column.max_length is not None:
            mark(
                pc.greater(pc.utf8_length(values), column.max_length),
                name,
                f"{name} is longer than the {column.max_length} characters {table} allows",
            )
        if column.max_bytes is not None:
            mark(
                pc.greater(pc.binary_length(values), column.max_bytes),
                name,
                f"{name} is longer than the {column.max_bytes} bytes {column.declared} holds",
            )
        exact = _exactly(column)
        if exact is not None:
            mark(
                pc.invert(pc.match_substring_regex(values, exact)),
                name,
                f"{name} is finer than {column.declared} keeps",
            )
        if column.type == "bpchar":
            mark(pc.ends_with(values, " "), name, f"{name} ends with a space, which {column.declared} does not keep")
        if column.values:
            known = pc.is_in(values, value_set=pa.array(column.values, values.type))
            mark(
                pc.and_(pc.invert(known), pc.is_valid(values)),
                name,
                f"{name} must be one of: {', '.join(column.values)}",
            )
    return found


def _finer(values: pa.ChunkedArray, digits: int) -> pa.Array | pa.ChunkedArray:
    """Where times have more digits of a second than these."""
    plain = values.cast(
        pa.timestamp("us", tz=values.type.tz) if pa.types.is_timestamp(values.type) else pa.time64("us")
    )
    micros, step = plain.cast(pa.int64()), 10 ** (_MICROS - digits)
    return pc.not_equal(pc.multiply(pc.divide(micros, step), step), micros)


def _exactly(column: Column) -> str | None:
    """A pattern of the texts that the column stores as they are; None where it refuses the others itself."""
    if column.decimals is not None:
        return _NUMBERS.format(digits=column.decimals)
    return _TIMES.format(digits=column.fraction) if _is_time(column.arrow) and column.fraction < _MICROS else None


def zero_bytes(rows: pa.Table) -> dict[int, Refusal]:
    """Rows with a text that holds a zero byte, which SQL databases cannot store, by index."""
    found: dict[int, Refusal] = {}
    for name in rows.column_names:
        kind = rows.schema.field(name).type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            mask = pc.fill_null(pc.match_substring(rows[name], "\0"), False)
            for row in pc.indices_nonzero(mask).to_pylist():
                found.setdefault(row, Refusal(name, f"{name} holds a zero byte, which the database cannot store"))
    return found


def refuse_unsayable(table: Table, op: Op, given: Sequence[str]) -> None:
    """Raises ConfigError when a required column is not given, or nothing marks an archived row."""
    if op is Op.CREATE:
        for column in table.columns.values():
            if column.field().required and column.name not in given:
                raise ConfigError(
                    f"{table} requires {column.name}, which the mapping does not give",
                    field=column.name,
                    mend=f"map {column.name}, or give the column a default",
                )
    if op is Op.ARCHIVE and table.options.tombstone is None:
        raise ConfigError(
            f"{table} has no way to archive a row",
            field="tombstone",
            mend=f"name the column: tables={{{table.name!r}: {{'tombstone': 'deleted_at'}}}}",
        )
