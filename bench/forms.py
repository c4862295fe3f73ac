"""Shared parts of all benches: the options of a short and a full form, exit codes, and bars for shares."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from typing import Any, Final, Literal

from scipy.special import betaincinv

HELD: Final = 0
MISSED: Final = 1
SKIPPED: Final = 77
"""Exit code if something that the bench needs is missing."""


class Options(ArgumentParser):
    """The options of a bench. ``make bench`` uses short sizes, and ``--full`` those of README.md's tables.

    The first line of the bench's docstring says what is measured. Its paragraph "Short form:" says what is left out.
    """

    def __init__(self, about: str | None) -> None:
        super().__init__(description=about, formatter_class=RawDescriptionHelpFormatter)
        self._paragraphs = (about or "").split("\n\n")
        self._full: dict[str, Any] = {}
        self.add_argument("--full", action="store_true", help="measure what the tables of bench/README.md show")

    def add_size(self, name: str, short: Any, full: Any, about: str, **more: Any) -> None:
        """Add an option whose default depends on the form."""
        kind = type(full[0] if isinstance(full, list) else full)
        nargs = {"nargs": "*"} if isinstance(full, list) else {}
        help_ = f"{about} ({short}; with --full {full})"
        added = self.add_argument(name, type=kind, default=short, help=help_, **nargs, **more)
        self._full[added.dest] = full

    def begin(self) -> Namespace:
        """Parse the command line, and print what is measured."""
        if (options := self.parse_args()).full:
            self.set_defaults(**self._full)
            options = self.parse_args()
        left_out = [each for each in self._paragraphs[1:] if each.startswith("Short form:") and not options.full]
        print(self._paragraphs[0], *map(str.strip, left_out), sep="\n", end="\n\n", flush=True)
        return options


def interval(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, from k of n (Clopper and Pearson, 1934)."""
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, 0.025))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 0.975))
    return low, high


def judged(what: str, wanted: str, *, ok: bool) -> bool:
    """Print whether a bar holds, and return it."""
    print(f"  {what}, {wanted} wanted: {'held' if ok else 'MISSED'}", flush=True)
    return ok


def judged_share(what: str, k: int, n: int, sign: Literal["≤", "≥"], wanted: float) -> bool:
    """Judge a share, from k of n. A bar is missed if the whole 95 % interval lies beyond it."""
    low, high = interval(k, n)
    ok = low <= wanted if sign == "≤" else high >= wanted
    return judged(f"{what}: {k} of {n} ({low:.1%} to {high:.1%})", f"{sign} {wanted:.1%}", ok=ok)
