"""What the 429s tell, in sentences: one for each limit, and why there is nothing to say where there is not."""

from typing import Final

from loadtest.analysis.findings import Findings
from loadtest.analysis.fit import BAR, Fit
from loadtest.analysis.inference import Inference, same, words
from loadtest.analysis.numbers import count
from loadtest.analysis.throttled import LimitThrottling

_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def verdict(found: Inference) -> str:
    """Which limiter it is, in a few words."""
    if found.word == "nothing":
        return "nothing tells it"
    if found.word == "none":
        return "none fits"
    kinds = list(dict.fromkeys(shorter(fit) for fit in found.named))
    if found.word == "named":
        return kinds[0]
    return " or ".join(kinds) if len(kinds) == 2 else f"{len(kinds)} kinds of limiter"


def sentence(name: str, found: LimitThrottling, findings: Findings) -> str:
    """What the answers of one limit tell of its limiter."""
    inferred = found.inference
    if inferred.word == "nothing":
        if not inferred.n:
            return "No request was answered, so nothing tells the algorithm."
        if not inferred.refused:
            return f"None of {count(inferred.n)} answers was a 429, so nothing tells the algorithm."
        return f"Each of {count(inferred.n)} answers was a 429, so nothing tells the algorithm."
    said = [_which(inferred)]
    if inferred.word in ("named", "several"):
        said.append(_confidence(inferred))
    said.append(_belief(name, found, findings))
    said.append(_other_count(found))
    return " ".join(part for part in said if part)


def _which(found: Inference) -> str:
    best = found.best
    if best is None:
        return ""
    of = f"{count(best.right)} of {count(found.n)} decisions are what it would have decided"
    of += f" ({count(best.undecided)} are undecidable)" if best.undecided else ""
    if found.word == "none":
        return (
            f"None of the known limiters fits: even the best, {words(best)}, is contradicted by "
            f"{count(best.wrongly_rejected)} of {count(best.refused)} 429s and by "
            f"{count(best.wrongly_admitted + best.unheld)} of {count(best.accepted)} accepted requests; "
            f"to fit it may be by {round((1 - BAR) * 100)}\u00a0% of either."
        )
    if found.word == "named":
        return f"Its answers are those of {words(best)}: {of}."
    listed = list(dict.fromkeys(words(fit) for fit in found.named))
    return f"These cannot be told apart by this traffic: {'; '.join(listed)}. Of the first, {of}."


def _confidence(found: Inference) -> str:
    other = found.next
    if other is None:
        if found.held is not None and found.named[0].spec.algorithm == "leaky-queue":
            return f"Accepted requests took as long as their place in a queue says (correlation {found.held:.2f})."
        return ""
    wins, losses = found.against
    text = f"The next-best, {words(other)}, is contradicted by {count(wins)} decisions that do not contradict it"
    text += f", and the other way round {count(losses)}" if losses else ""
    return f"{text} ({chance(found.log10_p)})."


def chance(log10_p: float | None) -> str:
    """A probability from its logarithm: ``p < 10⁻²⁶``."""
    if log10_p is None:
        return "no p"
    if log10_p > -3:
        return f"p = {10**log10_p:.2g}"
    return f"p < 10{str(int(log10_p)).translate(_RAISED)}"


def _belief(name: str, found: LimitThrottling, findings: Findings) -> str:
    believed, record = found.believed, findings.record
    spec, limit = record.belief.spec, record.belief.limit_on(name)
    if believed is None or any(same(fit, spec, limit) for fit in found.inference.named):
        return ""
    wrong = believed.wrongly_rejected + believed.wrongly_admitted + believed.unheld
    return f"It was believed to be {shorter(believed)}, which {count(wrong)} decisions contradict."


def shorter(fit: Fit) -> str:
    """A limiter in fewer words, for where it is said beside others."""
    said = words(fit)
    return said.replace(" (or GCRA, which decides alike)", " or GCRA")


def _other_count(found: LimitThrottling) -> str:
    other, windows = found.inference.other_count, found.windows
    believed = found.believed.limit.count if found.believed is not None else None
    if other is not None:
        shared = (
            ", or keys share limits that they were believed not to" if windows and windows.counts.limiters > 1 else ""
        )
        return (
            f"Its count seems to be {count(other)}"
            + (f" instead of {count(believed)}" if believed else "")
            + shared
            + "."
        )
    seen = None if windows is None else windows.counts
    if seen is not None and seen.seems is not None and abs(seen.seems - seen.count) > 1:
        return f"Its saturated whole windows let {count(seen.seems)} pass, not {count(seen.count)}."
    return ""


def title(findings: Findings) -> str:
    """The finding of all limits together."""
    by_verdict: dict[str, list[str]] = {}
    for name, each in findings.throttled.limits.items():
        if each.inference.word != "nothing":
            by_verdict.setdefault(verdict(each.inference), []).append(name)
    if not by_verdict:
        return "Nothing tells which limiter there is"
    if len(by_verdict) == 1:
        found = next(iter(by_verdict))
        names = ", ".join(by_verdict[found])
        return (
            "None of the known limiters fits the answers"
            if found == "none fits"
            else f"The answers fit {found}" + (f" ({names})" if len(findings.throttled.limits) > 1 else "")
        )
    return "What the answers fit: " + " · ".join(f"{', '.join(names)}: {found}" for found, names in by_verdict.items())
