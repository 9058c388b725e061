"""`python -m tests.sabotage [-k WORD] [--slow-only] [--list]`: every patch must apply and turn its test red.

First all named tests must be green without any patch (`--slow-only`: the slow ones, where `make test` runs the others
anyway). Then each patch is applied to a copy of the tree and its test runs there, two patches at a time. Exits 1 when
a patch does not apply or leaves its test green.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.sabotage.patches import ROOT, PatchError, Sabotage, all_patches, apply, copy_tree
from tests.sabotage.runs import NOTHING, RED, Ran, compile_all, pytest_in

AT_ONCE = 2
GREEN_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one patch: `red` is what is wanted; anything else comes with what was said."""

    sabotage: Sabotage
    word: str
    seconds: float = 0.0
    said: str = ""


def green(base: Path, patches: Sequence[Sabotage], scratch: Path, *, slow_only: bool = False) -> dict[str, str]:
    """Runs each distinct test (or the slow ones) once, unpatched; those that are not green, with what pytest said."""
    tests = sorted({one.red for one in patches})
    parts = [tests[at::AT_ONCE] for at in range(min(AT_ONCE, len(tests)))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = pool.map(
            lambda item: pytest_in(
                base,
                item[1],
                scratch=scratch / f"green{item[0]}",
                seconds=GREEN_SECONDS,
                options=["-m", "slow"] if slow_only else [],
            ),
            enumerate(parts),
        )
        told = list(zip(parts, runs, strict=True))
    return {
        test: ran.last_words
        for part, ran in told
        for test in part
        if set(ran.verdicts(test)) - {"PASSED"}
        or (not ran.verdicts(test) and not (slow_only and ran.code in (0, RED, NOTHING)))
    }


def tried(base: Path, sabotage: Sabotage, work: Path) -> Verdict:
    """Applies a patch to a copy and runs its test there."""
    tree = work / sabotage.name / "tree"
    tree.mkdir(parents=True)
    try:
        copy_tree(base, tree)
        apply(sabotage, tree)
        ran = pytest_in(tree, [sabotage.red], scratch=work / sabotage.name / "scratch", options=["-x"])
        if judged(ran, sabotage.red).startswith("broken"):  # not set up: a server that did not start, say
            ran = pytest_in(tree, [sabotage.red], scratch=work / sabotage.name / "again", options=["-x"])
        return Verdict(sabotage=sabotage, word=judged(ran, sabotage.red), seconds=ran.seconds, said=ran.last_words)
    except PatchError as error:
        return Verdict(sabotage=sabotage, word="does not apply", said=str(error))
    finally:
        shutil.rmtree(work / sabotage.name, ignore_errors=True)


def judged(ran: Ran, test: str) -> str:
    """`red` when the test itself failed; a test that was not found or could not be set up proves nothing."""
    if ran.code is None:
        return "too slow"
    if ran.code == 0:
        return "STAYED GREEN"
    return "red" if ran.code == RED and "FAILED" in ran.verdicts(test) else f"broken (exit {ran.code})"


def told(verdict: Verdict) -> str:
    """A line of the table."""
    one = verdict.sabotage
    return f"{one.name:<34} {verdict.word:<14} {verdict.seconds:5.1f} s  {one.promise}\n{'':<34} {one.red}"


def main(arguments: Sequence[str]) -> int:
    """Tries the chosen patches; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sabotage", description=__doc__)
    parser.add_argument("-k", default="", metavar="WORD[,WORD]", help="only patches whose name or test holds a WORD")
    parser.add_argument("--slow-only", action="store_true", help="without a patch, run the slow ones of the tests only")
    parser.add_argument("--list", action="store_true", help="list the patches and run nothing")
    options = parser.parse_args(arguments)
    words = options.k.split(",")
    patches = [one for one in all_patches() if any(word in one.name or word in one.red for word in words)]
    if not patches:
        print(f"no patch matches {options.k!r}", file=sys.stderr)
        return 2
    if options.list:
        for one in patches:
            print(f"{one.name:<34} {one.promise}\n{'':<34} {one.red}")
        return 0
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        work = Path(folder).resolve()
        base = work / "base"
        base.mkdir()
        copy_tree(ROOT, base)
        compile_all(base)
        wrong = green(base, patches, work, slow_only=options.slow_only)
        if wrong:
            print(*(f"not green without a patch: {test}" for test in wrong), *set(wrong.values()), sep="\n")
            return 1
        which = f"{'the slow ones of ' if options.slow_only else ''}{len({one.red for one in patches})} tests"
        print(f"{which} are green unpatched ({time.monotonic() - begun:.0f} s)\n")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            verdicts = []
            for verdict in pool.map(lambda one: tried(base, one, work), patches):
                verdicts.append(verdict)
                print(told(verdict), flush=True)
    failed = [one for one in verdicts if one.word != "red"]
    for one in failed:
        print(f"\n--- {one.sabotage.name}: {one.word}\n{one.said}")
    reds = len(verdicts) - len(failed)
    print(f"\n{reds} of {len(verdicts)} patches turned their test red ({time.monotonic() - begun:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
