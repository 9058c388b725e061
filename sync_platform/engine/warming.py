"""What the first records would wait for, done while the source is still being read.

pandera makes its checks ready when they are first asked, the spelling of times is put together from tables, and the
target is connected to and describes its object: a fifth of a second before a run's first record, however few there are.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

from sync_platform.engine.reconcile import desired_hash

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

_SOME = pl.DataFrame(
    {"text": ["a"], "time": [dt.datetime(2000, 1, 1, tzinfo=dt.UTC)], "amount": [Decimal("1.00")]},
    schema={"text": pl.String, "time": pl.Datetime("us", "UTC"), "amount": pl.Decimal(12, 2)},
)


def warm(session: Session, spec: SyncSpec) -> None:
    """Looks at the target, asks the sync's contract about no record at all, and hashes one that is nobody's.

    What is wrong with the contract or the target is told where records are judged.
    """
    desired_hash(_SOME, _SOME.columns)
    with contextlib.suppress(Exception):
        session.connector(spec.target.connection).stream(spec.target.object)
    if spec.contract:
        with contextlib.suppress(Exception):
            contract = session.project.load(spec.contract, field_name="contract")
            names = contract.to_schema().columns
            contract.validate(pl.DataFrame(schema=dict.fromkeys(names, pl.String)), lazy=True)
