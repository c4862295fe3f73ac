"""The verdict of a run: validity first, then how it ended, then its thresholds."""

from dataclasses import dataclass
from typing import Final, Literal

from loadtest.analysis.judgement import Judged
from loadtest.analysis.numbers import NOTHING, quantity
from loadtest.analysis.validity import Check
from loadtest.errors import ExitCode
from loadtest.record.run_info import RunInfo

Word = Literal["invalid", "aborted", "regressed", "fail", "inconclusive", "pass"]

EXIT_CODES: Final[dict[Word, ExitCode]] = {
    "invalid": ExitCode.INVALID,
    "aborted": ExitCode.ABORTED,
    "regressed": ExitCode.REGRESSED,
    "fail": ExitCode.FAIL,
    "inconclusive": ExitCode.INCONCLUSIVE,
    "pass": ExitCode.PASS,
}
"""In order of precedence."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run amounts to.

    Attributes:
        word: one of ``EXIT_CODES``.
        statement: what is the case, in one plain sentence without the word.
        reasons: what it rests on, a sentence each; empty for a pass.
        exit_code: that of the verb that made the report.
        interrupted: the run was stopped by hand, so that the verdict is on what there was until then.
    """

    word: Word
    statement: str
    reasons: tuple[str, ...]
    exit_code: ExitCode
    interrupted: bool = False

    @property
    def sentence(self) -> str:
        """The verdict in one plain sentence, the word first."""
        word = f"Interrupted; until then {self.word}" if self.interrupted else self.word.capitalize()
        return f"{word}: {self.statement}"


def decide(info: RunInfo, checks: list[Check], judged: list[Judged]) -> Verdict:
    """The verdict, by precedence: a bottlenecked generator can neither pass nor fail a service."""
    word, statement, reasons = _decide(info, checks, judged)
    interrupted = info.end == "interrupted"
    code = ExitCode.INTERRUPTED if interrupted else EXIT_CODES[word]
    return Verdict(word, statement, tuple(reasons), code, interrupted)


def _decide(info: RunInfo, checks: list[Check], judged: list[Judged]) -> tuple[Word, str, list[str]]:
    # An aborted run may have been stopped before its first request: that is its reason, and no fault of the generator.
    aborted, why = info.end == "aborted", info.end_reason or "it was stopped before its end"
    if broken := [check.words for check in checks if not check.ok and not (aborted and check.name == "something sent")]:
        # Who reads that figures are not to be relied on still has to know what ended the run.
        ended = [f"it was aborted: {why}"] if aborted else []
        return "invalid", "; ".join([f"{broken[0]}{_more(len(broken) - 1)}", *ended]) + ".", [*broken, *ended]
    if aborted:
        return "aborted", f"{why}.", [why]
    if failed := [sentence(one) for one in judged if one.judgement == "fail"]:
        rest = f"{len(failed)} of {_count(len(judged))} {'does' if len(failed) == 1 else 'do'} not hold"
        return "fail", f"{rest}: {failed[0]}{_more(len(failed) - 1)}.", failed
    if unclear := [sentence(one) for one in judged if one.judgement == "inconclusive"]:
        rest = f"{len(unclear)} of {_count(len(judged))} cannot be judged"
        return "inconclusive", f"{rest}: {unclear[0]}{_more(len(unclear) - 1)}.", unclear
    if not judged:
        return "pass", "the run is valid; no thresholds set.", []
    held = "its one threshold holds" if len(judged) == 1 else f"all {len(judged)} thresholds hold"
    return "pass", f"{held}, and the run is valid.", []


def sentence(one: Judged) -> str:
    """One judged threshold in words: where, what, and what it was."""
    where = f"{one.threshold.scope}: {one.threshold.text}"
    if one.judgement == "inconclusive":
        return f"{where} ({one.why})"
    return f"{where}, but it was {amount(one)}"


def amount(one: Judged) -> str:
    """The value of a judged threshold, with its unit; bounds where it is known only within them."""
    if one.value is None:
        return NOTHING
    if one.bounds is not None:
        low, high = one.bounds
        upper = quantity(high, one.threshold.unit)
        return (
            f"at least {quantity(low, one.threshold.unit)}"
            if high == float("inf")
            else (f"{quantity(low, one.threshold.unit)} to {upper}")
        )
    return quantity(one.value, one.threshold.unit)


def _more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""


def _count(count: int) -> str:
    return "1 threshold" if count == 1 else f"{count} thresholds"
