"""How much of the machine others used while a row was measured: figures of a busy machine say little."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil

from sync_platform.state.server import running_pid
from tests.bench.events_world import Home, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Seconds of CPU so far: of the machine, busy and all together; of the bench's processes, and two kinds of them."""

    busy: float
    all: float
    ours: float
    gateway: float
    workers: float

    @classmethod
    def now(cls, world: World) -> Usage:
        """As it stands."""
        times = psutil.cpu_times()
        total = sum(times) - times.guest - times.guest_nice  # those are in `user` and `nice` already
        server = running_pid(Home(world.folder / "project" / "home"))
        ours = _of(os.getpid()) + (_of(server) if server is not None else 0.0)
        gateway, workers = (sum(map(_of, world.pids(name))) for name in ("gateway", "worker"))
        return cls(busy=total - times.idle - times.iowait, all=total, ours=ours, gateway=gateway, workers=workers)

    def since(self, before: Usage, events: int) -> Spent:
        """What was used since, for so many events."""
        spent = {name: getattr(self, name) - getattr(before, name) for name in ("busy", "all", "ours")}
        return Spent(
            others=max(0.0, (spent["busy"] - spent["ours"]) / max(spent["all"], 1e-9)),
            gateway=(self.gateway - before.gateway) / events,
            workers=(self.workers - before.workers) / events,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The share of the machine that others used, and seconds of CPU an event cost the gateway and the workers."""

    others: float
    gateway: float
    workers: float

    def __str__(self) -> str:
        parts = {"gateway": self.gateway, "worker": self.workers}
        cpu = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in parts.items() if seconds)
        return f"CPU an event: {cpu}; others used {self.others:.0%} of the machine"


def _of(pid: int) -> float:
    """A process and everything it started, the ended ones too."""
    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in family:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:  # its parent has its time by now
            continue
    return total
