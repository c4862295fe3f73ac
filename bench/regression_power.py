"""False alarms and power of a regression check, beside other rules.

``bench/README.md`` lists the regimes, their seeds and the bars, and has the last results. Run:
``python bench/regression_power.py --full`` (about 20 minutes of CPU time). ``--peers PYTHON`` adds Otava and
inference-doctor; PYTHON is an interpreter that has both.

Short form: a few regimes with 200 families each. The other regimes' bars are left out.
"""

import math
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import regression_blocks as blocks
from forms import Options, interval
from numpy.typing import NDArray
from regression_checks import CHANGED, NONE, Change, as_matrices, check, described, evidence, families
from regression_families import HISTORY, HISTORY_REAL, PAIRED, PAIRED_REAL, SEEDS, Scores, rows
from regression_rivals import rivals, threshold

FULL: Final = 1000
SHORT: Final = 200
COMPARED: Final = 1000
"""Changes and other rules are tried on this many families, the first ones."""
BRIEF: Final = ("h02", "h11", "p02", "hr3", "pr4")
SHOWN: Final = ("h02", "h03", "hr2", "hr4", "p02", "p03", "pr3", "pr4", "pr5")
"""Regimes with a table of the other rules."""
OURS: Final = "our p, the same way"
"""Label of the rule's own p if it has a threshold like the other rules."""


def changes(name: str) -> tuple[Change, ...]:
    """Return the changes that are tried in a regime. The first is no change."""
    if name in PAIRED:
        return (NONE, Change(1.1), Change(1.2))
    if name in PAIRED_REAL:
        slower = blocks.REGIMES[PAIRED_REAL[name].blocks].slower
        return (NONE, Change(slower, real=True), Change(1.2 if slower < 1.15 else 1.1))
    return (NONE, *(Change(1.2), Change(1.1, everywhere=True), Change(1.3, tail=True)))


class Tally(NamedTuple):
    """The results for the families of a regime with a change.

    Attributes:
        reruns: whether each family was rerun.
        found: whether the change was confirmed. Without a change, this is a false alarm.
        pairs: number of pairs that were used; 0 for a history.
        rivals: for each rule, the strongest statistic of each family that can show the change.
        single: the same for the first session or run alone.
        defaults: each rule's default threshold.
    """

    reruns: NDArray[np.bool_]
    found: NDArray[np.bool_]
    pairs: NDArray[np.int_]
    rivals: dict[str, Scores]
    single: dict[str, Scores]
    defaults: dict[str, float | None]


def measure(
    name: str, change: Change, count: int, peers: Path | None, *, alone: bool = False, offset: int = 0
) -> Tally:
    """Check families of a regime. Unless our rule is measured alone, try the other rules on the first ones."""
    paired = name in PAIRED or name in PAIRED_REAL
    count = count if change == NONE else min(count, COMPARED)
    kept, outcomes = [], []
    for family in families(name, change, count, offset):
        outcomes.append(check(family, paired))
        if not alone and len(kept) < min(count, COMPARED):
            kept.append(family)
    one = change.factor > 1 and not change.everywhere
    found = [CHANGED in each.entries if one else each.regressed for each in outcomes]
    confirmed, reruns = np.array(found), np.array([each.rerun for each in outcomes])
    pairs = np.array([each.pairs for each in outcomes])
    if alone:
        return Tally(reruns, confirmed, pairs, {}, {}, {})
    base, head, entries = as_matrices(kept)
    columns = [at for at, entry in enumerate(entries) if not one or entry == CHANGED]
    others = rivals(base[:, :, columns], head[:, :, columns], paired, peers if name in SHOWN else None)
    statistics = {rule: each.confirmed.max(axis=1) for rule, each in others.items()}
    if name in SHOWN:
        strengths = [evidence(family, paired) for family in kept]
        wanted = [CHANGED] if one else list(dict.fromkeys(entries))
        statistics[OURS] = np.array([max(each.get(entry, 0.0) for entry in wanted) for each in strengths])
    return Tally(
        reruns,
        confirmed,
        pairs,
        statistics,
        {rule: each.single.max(axis=1) for rule, each in others.items()},
        {rule: each.default for rule, each in others.items()},
    )


Results = dict[str, dict[Change, Tally]]


class Bar(NamedTuple):
    """A bar for the rule.

    Attributes:
        text: description.
        share: the bar.
        most: whether it is an upper bar.
        regimes: all regimes that it applies to. The worst is compared.
        change: the change of the families.
        reruns: whether the bar is on reruns.
        within: maximum number of pairs that may find the change; 0 for any number.
        pairs: whether the bar is on the mean number of pairs.
    """

    text: str
    share: float
    most: bool
    regimes: tuple[str, ...]
    change: Change = NONE
    reruns: bool = False
    within: int = 0
    pairs: bool = False


def bars() -> list[Bar]:
    """Return the bars of ``bench/README.md``."""
    calm, other = (
        {
            kind: tuple(name for name, each in regimes.items() if each.judged and each.calm == is_calm)
            for kind, regimes in (("history", HISTORY), ("pairs", PAIRED))
        }
        for is_calm in (True, False)
    )
    real = {"history": tuple(HISTORY_REAL), "pairs": tuple(PAIRED_REAL)}
    alarms = [
        Bar(f"{kind}: false alarms, {text}", most, True, regimes[kind])
        for text, most, regimes in (("calm", 0.01, calm), ("other noise", 0.03, other), ("real blocks", 0.05, real))
        for kind in ("history", "pairs")
    ]
    normal = tuple(name for name, each in HISTORY.items() if each.noise == "normal" and not each.autocorrelation)
    rest = tuple(name for name, each in HISTORY.items() if each.judged and name not in normal)
    one, everywhere, tail = Change(1.2), Change(1.1, everywhere=True), Change(1.3, tail=True)
    return [
        *alarms,
        Bar("history: reruns, normal noise", 0.15, True, normal, reruns=True),
        Bar("history: reruns, other noise", 0.20, True, (*rest, *real["history"]), reruns=True),
        Bar("history of 5, sd 3 %: +10 % on all", 0.80, False, ("h02",), everywhere),
        Bar("history of 5, sd 3 %: +20 % on one", 0.97, False, ("h02",), one),
        Bar("history of 5, sd 3 %: p95 +30 % on one", 0.75, False, ("h02",), tail),
        Bar("history of 20, sd 3 %: +10 % on all", 0.95, False, ("h14",), everywhere),
        Bar("history of 20, sd 3 %: p95 +30 % on one", 0.95, False, ("h14",), tail),
        Bar("pairs, sd 5 %: +10 % on one in at most 10", 0.65, False, ("p03",), Change(1.1), within=10),
        Bar("pairs, 5 % outliers at sd 3 %: +20 % on one", 0.95, False, ("p09",), one),
        Bar("pairs used at sd 3 %: unchanged", 5.0, True, ("p02",), pairs=True),
        Bar("pairs used at sd 3 %: +20 % on one", 4.2, True, ("p02",), one, pairs=True),
        Bar("pairs used at sd 3 %: +10 % on one", 5.6, True, ("p02",), Change(1.1), pairs=True),
    ]


def share(found: NDArray[np.bool_]) -> str:
    """Format a share with its 95 % interval (Clopper and Pearson, 1934)."""
    k, n = int(found.sum()), len(found)
    low, high = interval(k, n)
    return f"{100 * k / n:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def power_table(results: Results) -> Iterator[str]:
    """Yield the results of our rule, with a row for each regime."""
    yield "| regime | false alarms, % (95 %) | reruns, %, or pairs | changes found, % |"
    yield "| --- | --- | --- | --- |"
    for name, tallies in results.items():
        none, *others = tallies.items()
        alarms = none[1].found
        paired = name in PAIRED or name in PAIRED_REAL
        cells = [
            f"{change}: {share(tally.found)}" + (f" in {tally.pairs.mean():.1f} pairs" if paired else "")
            for change, tally in others
        ]
        cost = f"{none[1].pairs.mean():.1f}" if paired else share(none[1].reruns)
        yield f"| {name} | {share(alarms)} | {cost} | {'; '.join(cells)} |"


def bar_table(results: Results) -> tuple[list[str], bool]:
    """Return each bar with its worst regime, and whether all hold.

    A bar is missed if the whole 95 % interval lies beyond it.
    """
    lines = ["| bar | wanted | measured, worst regime | holds |", "| --- | --- | --- | --- |"]
    held = True
    for bar in bars():
        seen = {name: _seen(bar, tallies[bar.change]) for name, tallies in results.items() if name in bar.regimes}
        if not seen:
            continue
        worst = (max if bar.most else min)(seen, key=lambda name: seen[name].mean())
        values = seen[worst]
        if bar.pairs:
            half = 1.96 * float(values.std()) / math.sqrt(len(values))
            low, high = float(values.mean()) - half, float(values.mean()) + half
            wanted, measured = f"{bar.share:g}", f"{values.mean():.2f} ({low:.2f}–{high:.2f})"
        else:
            low, high = interval(int(values.sum()), len(values))
            wanted, measured = f"{100 * bar.share:g} %", f"{share(values)} %"
        holds = low <= bar.share if bar.most else high >= bar.share
        held &= holds
        sign = "≤" if bar.most else "≥"
        lines.append(f"| {bar.text} | {sign} {wanted} | {measured} in {worst} | {'yes' if holds else '**no**'} |")
    return lines, held


def _seen(bar: Bar, tally: Tally) -> NDArray[Any]:
    if bar.pairs:
        return tally.pairs
    if bar.within:
        return tally.found & (tally.pairs <= bar.within)
    return tally.reruns if bar.reruns else tally.found


def default_table(results: Results) -> Iterator[str]:
    """Yield the false alarms of the other rules in %, with default thresholds and without a rerun."""
    rules = list(dict.fromkeys(rule for tallies in results.values() for rule in tallies[NONE].single))
    yield f"| regime | {' | '.join(rules)} | ours, suspects | ours, confirmed |"
    yield "| --- |" + " --- |" * (len(rules) + 2)
    for name, tallies in ((name, tallies) for name, tallies in results.items() if name in SHOWN):
        none, cells = tallies[NONE], []
        for rule in rules:
            limit = none.defaults.get(rule)
            cells.append("–" if limit is None else f"{100 * (none.single[rule] > limit).mean():.1f}")
        yield f"| {name} | {' | '.join(cells)} | {100 * none.reruns.mean():.1f} | {100 * none.found.mean():.1f} |"


def rival_table(results: Results) -> Iterator[str]:
    """Yield the power at equal false alarms, with a threshold for all regimes / for each regime."""
    for kind, names in (("history", {**HISTORY, **HISTORY_REAL}), ("paired", {**PAIRED, **PAIRED_REAL})):
        chosen = {name: tallies for name, tallies in results.items() if name in names}
        rules = list(dict.fromkeys(rule for tallies in chosen.values() for rule in tallies[NONE].rivals))
        together = {rule: _together(chosen, rule) for rule in rules}
        yield f"| {kind} | change | ours | {' | '.join(rules)} |"
        yield "| --- | --- | --- |" + " --- |" * len(rules)
        for name, tallies in ((name, tallies) for name, tallies in chosen.items() if name in SHOWN):
            for change, tally in list(tallies.items())[1:]:
                cells = [_powers(tallies[NONE], tally, rule, together[rule]) for rule in rules]
                ours = f"{100 * tally.found[:COMPARED].mean():.0f}"
                yield f"| {name} | {change} | {ours} | {' | '.join(cells)} |"
        yield ""


def _together(chosen: Results, rule: str) -> float:
    """Return a rule's threshold for all regimes in which it was tried."""
    tried = [tallies[NONE] for tallies in chosen.values() if rule in tallies[NONE].rivals]
    strongest = np.concatenate([each.rivals[rule] for each in tried])
    return threshold(strongest, sum(int(each.found[: len(each.rivals[rule])].sum()) for each in tried))


def _powers(none: Tally, tally: Tally, rule: str, together: float) -> str:
    if rule not in tally.rivals:
        return "–"
    own = threshold(none.rivals[rule], int(none.found[: len(none.rivals[rule])].sum()))
    statistic = tally.rivals[rule]
    return f"{100 * (statistic > together).mean():.0f} / {100 * (statistic > own).mean():.0f}"


def collected(
    names: Sequence[str],
    count: int,
    peers: Path | None = None,
    folder: Path | None = None,
    *,
    alone: bool = False,
    offset: int = 0,
) -> Results:
    """Measure regimes. Results that are in the folder are read instead."""
    results: Results = {}
    for name in names:
        kept = folder / f"{name}.pickle" if folder else None
        if kept and kept.exists():
            results[name] = pickle.loads(kept.read_bytes())
            continue
        results[name] = {
            change: measure(name, change, count, peers, alone=alone, offset=offset) for change in changes(name)
        }
        print(f"{name}: false alarms {share(results[name][NONE].found)} %", file=sys.stderr, flush=True)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(pickle.dumps(results[name]))
    return results


def main() -> int:
    """Measure and print. Return 1 if a bar is missed."""
    every = [*HISTORY, *HISTORY_REAL, *PAIRED, *PAIRED_REAL]
    parser = Options(__doc__)
    parser.add_size("--only", [*BRIEF], every, "regimes", metavar="REGIME")
    parser.add_size("--families", SHORT, FULL, "families of each regime")
    parser.add_argument("--seeds", choices=SEEDS, default="own", help="offset of the seeds")
    parser.add_argument("--alone", action="store_true", help="leave out the other rules")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="an interpreter with the other tools")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="store results there, and read those that exist")
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="make the real blocks anew, records in FOLDER")
    parser.add_argument("--regimes", action="store_true", help="print the regimes and seeds")
    arguments = parser.begin()
    if arguments.regimes:
        print("\n".join(rows()))
        return 0
    if arguments.collect:
        blocks.collect(arguments.collect)
        blocks.write(blocks.reduce(arguments.collect))
        return 0
    names, count = arguments.only, arguments.families
    offset = SEEDS[arguments.seeds]
    results = collected(names, count, arguments.peers, arguments.results, alone=arguments.alone, offset=offset)
    lines, held = bar_table(results)
    for name in names:
        if drawn := {**HISTORY_REAL, **PAIRED_REAL}.get(name):
            print(f"{name}, {drawn.blocks}: {described(drawn)}")
    others = () if arguments.alone else (default_table(results), rival_table(results))
    tables = (power_table(results), *others, lines)
    print("\n" + "\n\n".join("\n".join(table) for table in tables))
    return not held


if __name__ == "__main__":
    sys.exit(main())
