"""Every type of PostgreSQL and MariaDB with its values, and the column that the other database has for it.

`usual` values must arrive unchanged wherever they go; `odd` ones unchanged, or with a loss that was told before.
PostgreSQL's values are texts that the server casts, MariaDB's are parameters of its driver.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st

Values = st.SearchStrategy[Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One type: as a column of its own database, as one of the other, and its values."""

    column: str
    other: str
    usual: Values
    odd: Sequence[Any] = ()


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    """Every number of so many digits, so many of them behind the point."""
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda n: Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -places)))


def span(micros: int) -> str:
    """A TIME(6) as MariaDB prints it."""
    seconds, rest = divmod(abs(micros), 10**6)
    return f"{'-' * (micros < 0)}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:06}"


def quoted(text: str) -> str:
    """A text as an element of PostgreSQL's arrays and rows."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def array(elements: Values, *, most: int = 4) -> Values:
    """One-dimensional arrays, with nulls."""
    return st.lists(st.none() | elements, max_size=most).map(
        lambda found: "{" + ",".join("NULL" if one is None else quoted(str(one)) for one in found) + "}"
    )


def box(rows: int, columns: int, elements: Values) -> Values:
    """Two-dimensional arrays."""
    row = st.lists(st.none() | elements, min_size=columns, max_size=columns)
    return st.lists(row, min_size=rows, max_size=rows).map(lambda found: json.dumps(found).translate(_BRACES))


def bounds(elements: Values, say: Any = str) -> Values:
    """Ranges, open or closed at either end."""
    ends = st.tuples(elements, elements).map(sorted)
    usual = st.tuples(st.sampled_from("[("), ends, st.sampled_from("])")).map(
        lambda told: f"{told[0]}{quoted(say(told[1][0]))},{quoted(say(told[1][1]))}{told[2]}"
    )
    return usual | st.sampled_from(["empty", "(,)"])


_BRACES: Final = str.maketrans("[]", "{}")
TEXT: Final = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
SMALL: Final = TEXT.map(lambda text: text.rstrip(" "))
LATIN: Final = st.text(st.characters(codec="iso8859-1", exclude_categories=("Cc",)), max_size=30)
TREE: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MOST: Final = dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)
MOMENT: Final = st.datetimes(max_value=MOST)
WHOLE: Final = MOMENT.map(lambda moment: moment.replace(microsecond=0))
INSTANT: Final = st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=st.just(dt.UTC))
MILLIS: Final = INSTANT.map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000))
HEX: Final = st.binary(max_size=30).map(lambda raw: "\\x" + raw.hex())
BITS: Final = st.text("01", max_size=20)
REAL: Final = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
DOUBLE: Final = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
NUMBER: Final = st.integers(0, 60).flatmap(lambda scale: decimals(70, scale)).map(lambda n: f"{n:f}")
ADDRESS: Final = st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda told: f"{told[0]}/{told[1]}")
ADDRESSES: Final = ADDRESS | st.ip_addresses(v=6).map(str)
MAC: Final = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
DAYS: Final = st.integers(-(10**5), 10**5)
INTERVAL: Final = st.tuples(DAYS, DAYS, st.integers(-(10**14), 10**14)).map(
    lambda told: f"{told[0]} mons {told[1]} days {told[2]} microseconds"
)
PAIR: Final = st.tuples(st.none() | st.integers(-9, 9), st.none() | TEXT).map(
    lambda told: f"({'' if told[0] is None else told[0]},{'' if told[1] is None else quoted(told[1])})"
)
JSON: Final = TREE.map(lambda tree: json.dumps(tree, ensure_ascii=False))
ENDS: Final = ("infinity", "-infinity")
WILD: Final = ("NaN", "Infinity", "-Infinity")

POSTGRES: Final[dict[str, Kind]] = {
    "smallint": Kind("smallint", "SMALLINT", st.integers(-(2**15), 2**15 - 1)),
    "integer": Kind("integer", "INT", st.integers(-(2**31), 2**31 - 1)),
    "bigint": Kind("bigint", "BIGINT", st.integers(-(2**63), 2**63 - 1)),
    "real": Kind("real", "FLOAT", REAL, (*WILD, "1e-45")),
    "double": Kind("double precision", "DOUBLE", DOUBLE, (*WILD, "5e-324")),
    "any_number": Kind("numeric", "LONGTEXT", NUMBER, (*WILD, "1e1000", "1e-1000")),
    "numeric_10_2": Kind("numeric(10,2)", "DECIMAL(10,2)", decimals(10, 2), WILD[:1]),
    "numeric_38_9": Kind("numeric(38,9)", "DECIMAL(38,9)", decimals(38, 9)),
    "numeric_60_20": Kind("numeric(60,20)", "DECIMAL(60,20)", decimals(60, 20), WILD[:1]),
    "hundreds": Kind("numeric(5,-2)", "LONGTEXT", st.integers(-99999, 99999).map(lambda n: n * 100)),
    "money": Kind("money", "LONGTEXT", decimals(12, 2)),
    "text": Kind("text", "LONGTEXT", TEXT, ("x" * 70_000,)),
    "short_text": Kind("text", "TEXT", TEXT, ("ö" * 40_000,)),
    "varchar": Kind("varchar(20)", "VARCHAR(20)", TEXT, (" ", "x ")),
    "char": Kind("char(20)", "VARCHAR(20)", SMALL, ("x ", " ")),
    "citext": Kind("citext", "LONGTEXT", TEXT),
    "name": Kind("name", "VARCHAR(64)", st.text("abc é", max_size=30)),
    "boolean": Kind("boolean", "TINYINT(1)", st.booleans()),
    "bytea": Kind("bytea", "LONGBLOB", HEX),
    "date": Kind("date", "DATE", st.dates(), (*ENDS, "0044-03-15 BC", "10000-01-01")),
    "time": Kind("time", "TIME(6)", st.times(), ("24:00",)),
    "seconds": Kind("time(0)", "TIME", st.times().map(lambda t: t.replace(microsecond=0))),
    "timetz": Kind("timetz", "LONGTEXT", st.times().map(lambda t: f"{t}+05:30"), ("24:00Z",)),
    "timestamp": Kind("timestamp", "DATETIME(6)", MOMENT, (*ENDS, "0044-03-15 10:00 BC", "294276-12-31 23:59:59.9")),
    "timestamp_0": Kind("timestamp(0)", "DATETIME", WHOLE, ENDS),
    "timestamptz": Kind("timestamptz", "DATETIME(6)", INSTANT, (*ENDS, "4714-11-24 00:00Z BC")),
    "timestamptz_3": Kind("timestamptz(3)", "DATETIME(3)", MILLIS, ENDS),
    "interval": Kind("interval", "LONGTEXT", INTERVAL, (*ENDS, "1 mon -1 days 00:00:00.000001")),
    "uuid": Kind("uuid", "UUID", st.uuids(version=4), ("87bb47cb-7f00-9264-0706-b39b55d9e4b8",)),
    "json": Kind("json", "JSON", JSON, ('{"b": 1, "a":1e400, "b":2.10}', " 1")),
    "jsonb": Kind("jsonb", "JSON", JSON, ('{"b": 1, "a":1.10, "b":2}', "123456789012345678901234567890.10")),
    "inet": Kind("inet", "LONGTEXT", ADDRESSES),
    "cidr": Kind("cidr", "LONGTEXT", st.ip_addresses().map(str)),
    "macaddr": Kind("macaddr", "LONGTEXT", MAC),
    "macaddr8": Kind("macaddr8", "LONGTEXT", MAC),
    "bit": Kind("bit(5)", "CHAR(5)", st.text("01", min_size=5, max_size=5)),
    "varbit": Kind("bit varying(20)", "VARCHAR(20)", BITS),
    "int4range": Kind("int4range", "LONGTEXT", bounds(st.integers(-(2**30), 2**30))),
    "numrange": Kind("numrange", "LONGTEXT", bounds(decimals(20, 4)), ("[1,infinity]",)),
    "tstzrange": Kind("tstzrange", "LONGTEXT", bounds(INSTANT), ('["2024-01-01Z",infinity)',)),
    "int4multirange": Kind("int4multirange", "LONGTEXT", st.lists(bounds(DAYS), max_size=3).map(
        lambda found: "{" + ",".join(found) + "}")),
    "integers": Kind("integer[]", "LONGTEXT", array(st.integers(-9, 9)), ("[0:1]={7,8}",)),
    "nested": Kind("integer[][]", "LONGTEXT", box(2, 3, st.integers(-9, 9))),
    "texts": Kind("text[]", "LONGTEXT", array(TEXT)),
    "numbers": Kind("numeric[]", "LONGTEXT", array(decimals(30, 10)), ("{NaN,Infinity}",)),
    "instants": Kind("timestamptz[]", "LONGTEXT", array(INSTANT)),
    "doubles": Kind("double precision[]", "LONGTEXT", array(DOUBLE), ("{NaN}",)),
    "mood": Kind("mood", "ENUM('sad','it''s')", st.sampled_from(["sad", "it's"])),
    "moods": Kind("mood[]", "LONGTEXT", array(st.sampled_from(["sad", "it's"]))),
    "pair": Kind("pair", "LONGTEXT", PAIR),
    "pairs": Kind("pair[]", "LONGTEXT", array(PAIR)),
    "domain": Kind("brief", "VARCHAR(20)", TEXT),
    "amount": Kind("amount", "DECIMAL(10,2)", st.integers(1, 10**9).map(lambda n: Decimal(n).scaleb(-2))),
    "hstore": Kind("hstore", "LONGTEXT", st.dictionaries(TEXT, st.none() | TEXT, max_size=3).map(lambda told: ",".join(
        f"{quoted(k)}=>{'NULL' if v is None else quoted(v)}" for k, v in told.items()))),
    "point": Kind("point", "LONGTEXT", st.tuples(DOUBLE, DOUBLE).map(str)),
    "polygon": Kind("polygon", "LONGTEXT", st.lists(st.tuples(DAYS, DAYS), min_size=3, max_size=4).map(
        lambda found: f"({','.join(map(str, found))})")),
    "tsvector": Kind("tsvector", "LONGTEXT", st.sampled_from(["a:1A b", "", "'it''s':2"])),
    "lsn": Kind("pg_lsn", "LONGTEXT", st.just("16/B374D848")),
    "jsonpath": Kind("jsonpath", "LONGTEXT", st.just("$.a[*] ? (@ > 1)")),
}  # fmt: skip

#: What PostgreSQL's columns need to exist.
POSTGRES_TYPES: Final = (
    "CREATE EXTENSION IF NOT EXISTS citext", "CREATE EXTENSION IF NOT EXISTS hstore",
    "CREATE TYPE mood AS ENUM ('sad', 'it''s')", "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN brief AS varchar(20)", "CREATE DOMAIN amount AS numeric(10,2) CHECK (VALUE > 0)",
)  # fmt: skip

_LONGEST: Final = (838 * 3600 + 59 * 60 + 59) * 10**6 + 999_999
_STAMP: Final = st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2038, 1, 18))
MARIADB: Final[dict[str, Kind]] = {
    "ti": Kind("TINYINT", "smallint", st.integers(-128, 127)),
    "tu": Kind("TINYINT UNSIGNED", "smallint", st.integers(0, 255)),
    "ok": Kind("TINYINT(1)", "boolean", st.booleans().map(int)),
    "si": Kind("SMALLINT", "smallint", st.integers(-(2**15), 2**15 - 1)),
    "mu": Kind("MEDIUMINT UNSIGNED", "integer", st.integers(0, 2**24 - 1)),
    "i": Kind("INT", "integer", st.integers(-(2**31), 2**31 - 1)),
    "iu": Kind("INT UNSIGNED", "bigint", st.integers(0, 2**32 - 1)),
    "bi": Kind("BIGINT", "bigint", st.integers(-(2**63), 2**63 - 1)),
    "bu": Kind("BIGINT UNSIGNED", "numeric(20,0)", st.integers(0, 2**64 - 1)),
    "big": Kind("BIGINT UNSIGNED", "bigint", st.integers(0, 2**63 - 1), (2**63, 2**64 - 1)),
    "n": Kind("DECIMAL(38,9)", "numeric(38,9)", decimals(38, 9)),
    "m": Kind("DECIMAL(12,2)", "numeric(12,2)", decimals(12, 2)),
    "wide": Kind("DECIMAL(65,30)", "numeric(65,30)", decimals(65, 30)),
    "f": Kind("FLOAT", "real", REAL),
    "d": Kind("DOUBLE", "double precision", DOUBLE),
    "b1": Kind("BIT(1)", "boolean", st.booleans().map(int)),
    "b64": Kind("BIT(64)", "numeric(20,0)", st.integers(0, 2**64 - 1)),
    "day": Kind("DATE", "date", st.dates()),
    "at": Kind("DATETIME(6)", "timestamp", MOMENT),
    "s": Kind("DATETIME", "timestamp(0)", WHOLE),
    "ts": Kind("TIMESTAMP(6) NULL", "timestamptz", _STAMP),
    "span": Kind("TIME(6)", "text", st.integers(-_LONGEST, _LONGEST).map(span)),
    "clock": Kind("TIME(6)", "time", st.integers(0, 86_400 * 10**6 - 1).map(span), ("-01:00:00", "24:00:00")),
    "y": Kind("YEAR", "smallint", st.just(0) | st.integers(1901, 2155)),
    "c": Kind("CHAR(30)", "char(30)", SMALL),
    "v": Kind("VARCHAR(30)", "varchar(30)", TEXT, ("\0", "x ")),
    "latin": Kind("VARCHAR(30) CHARACTER SET latin1", "text", LATIN),
    "t": Kind("TEXT", "text", TEXT, ("a\0b",)),
    "j": Kind("JSON", "json", JSON, ('{"b": 1, "a":1e400, "b":2.10}',)),
    "jb": Kind("JSON", "jsonb", st.just('{"a": 1.10}'), ('{"b": 1, "a":1, "b":2}', " 1")),
    "e": Kind("ENUM('a','it''s')", "letter", st.sampled_from(["a", "it's"])),
    "st": Kind("SET('x','y','z')", "text", st.sampled_from(["", "x", "x,z", "x,y,z"])),
    "raw": Kind("BLOB", "bytea", st.binary(max_size=40)),
    "fixed": Kind("BINARY(4)", "bytea", st.binary(min_size=4, max_size=4)),
    "u": Kind("UUID", "uuid", st.uuids(version=4).map(str)),
    "ip": Kind("INET6", "text", st.ip_addresses(v=6).map(str)),
}  # fmt: skip
POSTGRES_OTHERS: Final = ("CREATE TYPE letter AS ENUM ('a', 'it''s')",)


def same(one: Any, other: Any) -> bool:
    """Equal; a number's zero has no sign (MariaDB keeps none)."""
    if isinstance(one, float) or isinstance(other, float):
        return bool(float(one) == float(other)) or (math.isnan(float(one)) and math.isnan(float(other)))
    return bool(one == other)
