"""One verdict from many metrics, with its exit code and its sentences.

======================  ====  ===================================================================================
word                    exit  when
======================  ====  ===================================================================================
``regressed``              4  a suspected metric was worse again in the rerun, by an effect that matters
``pass``                   0  nothing is suspected, or the rerun did not confirm it. The sentence says which changes
                              would have been found: a calm service passes with "+7 %", a noisy one with "+40 %"
``learning``               0  fewer than five comparable accepted runs: nothing is judged, and it says so
``inconclusive``           6  someone has to act before it is known: a metric is suspected and awaits its rerun; or
                              the surroundings moved with it; or the rerun could not measure it; or no metric could
                              be tested
``not comparable``         3  scenario, target or (embedded) machine differ; the sentence names the field
``invalid``                3  the run's own validity does not hold
======================  ====  ===================================================================================

Metrics that vary too much to exclude a change are ``inconclusive`` each, and do not make the whole so: that is noise,
every run of a noisy service would be inconclusive, and nobody leaves such a check switched on. Time that only *moved*
between executionTime and overhead is a finding and no regression. A control that moved turns a suspicion into
``inconclusive``; a 404 or a do-nothing workflow that became slower only says where the time went.
"""

import math
from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from loadtest.compare import sentences
from loadtest.compare.findings import find, summary
from loadtest.compare.measurements import NATURES, Key, Metric, RunMeasurements
from loadtest.compare.results import Comparison, ControlComparison, Finding, MetricComparison, Word
from loadtest.errors import ExitCode

_EXIT_CODES: dict[Word, ExitCode] = {
    "regressed": ExitCode.REGRESSED,
    "pass": ExitCode.PASS,
    "learning": ExitCode.PASS,
    "inconclusive": ExitCode.INCONCLUSIVE,
    "not comparable": ExitCode.INVALID,
    "invalid": ExitCode.INVALID,
}


class Sides(NamedTuple):
    """Both sides of a comparison, as far as a verdict needs them.

    Attributes:
        base: in words.
        head: likewise.
        confirming: the keys that a rerun is to confirm; None for a first comparison.
        reasons: what the way of comparing adds.
    """

    kind: Literal["paired", "history"]
    title: str
    base_runs: tuple[RunMeasurements, ...]
    head_runs: tuple[RunMeasurements, ...]
    base: str
    head: str
    confirming: Collection[Key] | None
    reasons: tuple[str, ...] = ()


def undecided(sides: Sides, word: Word, sentence: str) -> Comparison:
    """A comparison that ends before any metric is compared."""
    return _comparison(sides, word, sentence)


def decide(
    sides: Sides, metrics: tuple[MetricComparison, ...], controls: tuple[ControlComparison, ...], least: int
) -> Comparison:
    """The verdict over judged metrics, as the module says."""
    first = sides.confirming is None
    worse = [one for one in metrics if one.p is not None and (one.suspect if first else one.verdict == "regressed")]
    findings = find(metrics, worse)
    metrics = _without_moved(metrics, findings)
    regressions = [one for one in findings if one.kind != "moved"]
    unsettled = [one for one in metrics if one.suspect and one.p is None]
    moved = [one for one in controls if one.moved]
    word, sentence = _verdict(sides, metrics, regressions=regressions, unsettled=unsettled, moved=moved, least=least)
    reasons = (*_reasons(sides, metrics, findings, moved, word), *sides.reasons)
    return _comparison(sides, word, sentence, reasons=reasons, findings=findings, metrics=metrics, controls=controls)


def _verdict(
    sides: Sides,
    metrics: Sequence[MetricComparison],
    *,
    regressions: Sequence[Finding],
    unsettled: Sequence[MetricComparison],
    moved: Sequence[ControlComparison],
    least: int,
) -> tuple[Word, str]:
    """The word of the verdict, and its sentence."""
    text = summary(regressions, metrics)
    if regressions and moved:
        names = sentences.listed([f"{one.name} {_growth(one.ratio)}" for one in moved])
        return "inconclusive", f"Inconclusive, the surroundings moved: {names}, which the service cannot touch. {text}."
    if regressions and sides.confirming is None:
        return "inconclusive", f"{text}. Suspected only: a rerun has to confirm it."
    if unsettled:
        names = sentences.listed([_name(one, metrics) for one in unsettled])
        also = f"{text}. " if text else ""
        return ("regressed" if regressions else "inconclusive"), f"{also}The rerun could not measure {names}."
    if regressions:
        return "regressed", f"{text}. The rerun confirmed it."
    tested = [one for one in metrics if one.p is not None]
    if not tested:
        return _nothing_tested(sides, metrics, least)
    done = "The rerun did not confirm it: no regression" if sides.confirming is not None else "No regression"
    found = [one for one in tested if NATURES[one.metric].scale == "log" and one.detectable is not None]
    return "pass", f"{done} found in {_count(len(tested), 'metric')}. {_would_have_seen(found, metrics)}".strip()


def _nothing_tested(sides: Sides, metrics: Sequence[MetricComparison], least: int) -> tuple[Word, str]:
    """Why no metric at all was tested."""
    if any(one.verdict == "learning" for one in metrics) or len(sides.base_runs) < least:
        there = len(sides.base_runs)
        if sides.kind == "history":
            left = least - there - 1
            rest = f"{left} more {'is' if left == 1 else 'are'} needed" if left > 0 else "the next one can be judged"
            return "learning", (
                f"Learning: {there} of {least} accepted runs are there, so this run is not judged. With it, {rest}."
            )
        return "inconclusive", f"Inconclusive: {there} of at least {least} pairs are there."
    why = next((one.why for one in metrics if one.why), "the run has no measurements")
    return "inconclusive", f"Inconclusive: no metric could be tested ({why})."


def _would_have_seen(found: Sequence[MetricComparison], metrics: Sequence[MetricComparison]) -> str:
    """The smallest and the largest change that is found in 80 % of cases; of short or polled times in ms."""
    parts = []
    ordered = sorted(
        (one for one in found if sentences.in_percent(one)),
        key=lambda one: NATURES[one.metric].worse * math.log(one.detectable or 1.0),
    )
    if ordered:
        ends = (
            sentences.detectable(sentences.where((one.traffic, one.stage), metrics), one)
            for one in (ordered[0], ordered[-1])
        )
        parts.append(" to ".join(dict.fromkeys(ends)))
    if short := sorted(sentences.detectable_ms(one) for one in found if not sentences.in_percent(one)):
        sizes = dict.fromkeys(sentences.signed(end) for end in (short[0], short[-1]))
        parts.append(f"{' to '.join(sizes)} ms of short or polled times")
    return f"It would have found {', and '.join(parts)}." if parts else ""


def _reasons(
    sides: Sides,
    metrics: Sequence[MetricComparison],
    findings: Sequence[Finding],
    moved: Sequence[ControlComparison],
    word: Word,
) -> tuple[str, ...]:
    """What else a reader must know, the most important first."""
    reasons = []
    if word == "inconclusive" and moved:
        reasons.append("Run it again at another time or on another machine.")
    elif word == "inconclusive" and findings:
        reasons.append("A rerun counts if it is independent: at another time, or better on another machine.")
    if any(one.kind == "grown" for one in findings):
        reasons += attribution([*sides.base_runs[-1:], sides.head_runs[-1]], metrics, findings)
    reasons += [one.sentence + "." for one in findings if one.kind == "moved"]
    if drifting := [one.cause for one in findings if one.cause.drift]:
        names = sentences.listed([_name(one, metrics) for one in drifting])
        reasons.append(f"Slow drift: {names} against the first {drifting[0].n} runs since the last accepted change.")
    if missing := [one for one in metrics if one.head is None]:
        names = sentences.listed([_name(one, metrics) for one in missing])
        reasons.append(f"Not measured in this run, though earlier runs have it: {names}.")
    if improved := [one for one in metrics if one.verdict == "improved"]:
        texts = [f"{_name(one, metrics)} {sentences.change(one)}" for one in improved]
        reasons.append(f"Improved: {sentences.listed(texts)}.")
    learning = [one for one in metrics if one.verdict == "learning"]
    if learning and word != "learning":
        names = sentences.listed([_name(one, metrics) for one in learning])
        reasons.append(f"Still learning, so not judged: {names}.")
    return tuple(reasons)


def _without_moved(metrics: Sequence[MetricComparison], findings: Sequence[Finding]) -> tuple[MetricComparison, ...]:
    """Metrics whose time only moved are no longer suspected."""
    keys = {(one.traffic, one.stage) for one in findings if one.kind == "moved"}
    if not keys:
        return tuple(metrics)
    changed = []
    for one in metrics:
        time = NATURES[one.metric].unit == "ms" and (one.suspect or one.verdict == "regressed")
        if time and one.p is not None and (one.traffic, one.stage) in keys:
            changed.append(
                msgspec.structs.replace(
                    one, verdict="inconclusive", suspect=False, why="time moved; the whole did not grow"
                )
            )
        else:
            changed.append(one)
    return tuple(changed)


def _comparison(
    sides: Sides,
    word: Word,
    sentence: str,
    *,
    reasons: tuple[str, ...] = (),
    findings: tuple[Finding, ...] = (),
    metrics: tuple[MetricComparison, ...] = (),
    controls: tuple[ControlComparison, ...] = (),
) -> Comparison:
    runs = [*sides.base_runs, *sides.head_runs]
    return Comparison(
        kind=sides.kind,
        scenario=sides.head_runs[-1].scenario,
        title=sides.title,
        word=word,
        exit_code=int(_EXIT_CODES[word]),
        sentence=sentence,
        reasons=reasons,
        base=sides.base,
        head=sides.head,
        runs=tuple(one.run for one in runs),
        confirmed=sides.confirming is not None and word in ("regressed", "pass"),
        findings=findings,
        metrics=metrics,
        controls=controls,
        base_runs=sides.base_runs,
        head_runs=sides.head_runs,
    )


def _name(one: MetricComparison, metrics: Sequence[MetricComparison]) -> str:
    return f"{sentences.where((one.traffic, one.stage), metrics)}: {NATURES[one.metric].name}"


def _growth(ratio: float) -> str:
    return f"{sentences.signed(100 * (ratio - 1))} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


_PART: Final = 0.25
"""Of the suspect's change: less leaves most of the cause elsewhere, more is a part of it that matters."""
_TAILS: Final = frozenset({Metric.EXECUTION_TIME_P95, Metric.RESPONSE_TIME_P95, Metric.TIME_TO_RESULT_P95})


def attribution(
    runs: Sequence[RunMeasurements], metrics: Sequence[MetricComparison], findings: Sequence[Finding]
) -> tuple[str, ...]:
    """What 404s and do-nothing workflows say of the finding that grew the most, or nothing; never an excuse.

    A sentence needs the 95 % interval of their own change in ms: it excludes a quarter of the suspect's change, or it
    is above it. "Not slower beyond chance" is no evidence: of 1 ms, +80 % may be within chance.
    ``runs`` are the last of the base and of the head: a workflow that did nothing before may take long now.
    """
    texts = []
    for entries, name, elsewhere, here in (
        (
            {name for run in runs for name in run.not_found_entries},
            "Requests that are answered 404, before any workflow runs,",
            "the time is lost later, where workflows run",
            "so much is lost before any workflow runs",
        ),
        (
            {name for run in runs for name in run.idle_entries},
            "Workflows that do nothing",
            "the cause is in what the other workflows do",
            "so much is lost around the workflows, not in them",
        ),
    ):
        # The first time that grew, of the entries that are asked about others.
        suspect = next((one.cause for one in findings if one.kind == "grown" and one.traffic not in entries), None)
        if suspect is None or suspect.difference is None:
            continue
        seen = _intervals(metrics, entries, suspect)
        if not seen:
            continue
        whole = f"of the {sentences.number(suspect.difference)} ms"
        most, least = max(high for _, high in seen), min(low for low, _ in seen)
        if most <= _PART * suspect.difference:
            texts.append(f"{name} changed by at most {sentences.number(max(most, 0.0))} ms {whole}: {elsewhere}.")
        elif least >= _PART * suspect.difference:
            size = f"{sentences.signed(least)} to {sentences.signed(most)} ms"
            texts.append(f"{name} became slower, too, by {size} (95 %) {whole}: {here}.")
    return tuple(texts)


def _intervals(
    metrics: Sequence[MetricComparison], entries: Collection[str], suspect: MetricComparison
) -> list[tuple[float, float]]:
    """The intervals of the entries' own change in ms, of p95 where the suspect is one."""
    metric = Metric.RESPONSE_TIME_P95 if suspect.metric in _TAILS else Metric.RESPONSE_TIME_P50
    return [
        one.difference_interval
        for one in metrics
        if one.traffic in entries
        and (one.stage, one.metric) == (suspect.stage, metric)
        and one.difference_interval is not None
        and all(map(math.isfinite, one.difference_interval))
    ]
