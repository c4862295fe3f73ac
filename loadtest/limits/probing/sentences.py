"""Sentences about a probe's findings.

Rate-limit headers are compared with the answers. No decision of the probe depends on them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from loadtest.http_headers import parse_retry_after
from loadtest.limits.headers import remaining, stated_limits
from loadtest.limits.probing.evidence import ProbeAnswer
from loadtest.limits.probing.results import LimitFinding
from loadtest.words import count

_ROUNDED_S: Final = 1.0
"""A correct Retry-After is at most this many seconds too long. RFC 9110, 10.2.3, allows only whole seconds."""


def verdict(found: LimitFinding) -> str:
    """Return the verdict on a limit, with the numbers found and the documented ones."""
    documented = f"{count(found.documented[0])} per {found.documented[1]:g} s"
    if found.verdict == "as documented":
        return f"{found.verdict}: {documented}"
    least = "at least " * (found.verdict == "looser")
    numbers = "" if found.stated is None else f": {least}{found.stated.words}"
    return f"{found.verdict}{numbers}, documented {documented}"


def facts(found: LimitFinding) -> tuple[tuple[str, str], ...]:
    """Return the findings as (label, words) pairs: first the accepted requests, then the limiters that explain them."""
    _, window = found.documented
    accepted, rows = found.facts, list[tuple[str, str]]()
    windows = ", ".join(f"{passed} of {sent}" for passed, sent in accepted.windows)
    rows.append(
        ("accepted", f"{windows} in each {window:g} s with requests; at most {accepted.longest_burst} in one burst")
    )
    if accepted.sustained is not None:
        passed, seconds = accepted.sustained
        rows.append(("", f"{passed} in the {seconds:.3g} s between the first and the last rejection"))
    rows.append(("limit", _limit_words(found)))
    rows.append(("limiter", "; or ".join(dict.fromkeys(each.words for each in found.standing)) or "unknown"))
    if not found.why and len({each.algorithm for each in found.standing}) > 1:
        rows.append(("", "the network hides how windows of a second or less begin"))
    rows += [("not sure", found.why), *(("seen", each) for each in found.seen)]
    rows += [("shared", each) for each in _shared(found)]
    statuses = ", ".join(f"{number} with {status}" for status, number in sorted(found.statuses.items()))
    rows += [("rejections", statuses or "none"), ("Retry-After", found.retry_after), ("headers", found.headers)]
    cost = f"{found.requests} requests, {found.rejected} of them rejected, {found.seconds:.0f} s; "
    cost += f"{found.executed} runs" if found.executed else "nothing was executed"
    cost += f"; {found.jobs_of_rejected} rejected requests name a job" if found.jobs_of_rejected else ""
    return tuple((name, words) for name, words in (*rows, ("cost", cost)) if words)


def _limit_words(found: LimitFinding) -> str:
    """Describe the enforced numbers and their other possible causes."""
    numbers, (documented, window) = found.stated, found.documented
    if numbers is None:
        more = "; more was accepted than the documented limit accepts, and other clients can't cause that"
        return "unknown" + more * (found.verdict == "looser")
    times = sum(numbers.rate) / 2 / (documented / window)
    rate = f"{numbers.words}: {times:.3g} times the documented rate"
    if found.verdict == "looser":
        return f"at least {rate}; other clients can't cause that"
    if found.verdict == "stricter":
        used = documented - sum(numbers.count) / 2 * window / numbers.window_s
        uses = f" uses {used:.3g} per {window:g} s" if used > 0 else " shares it"
        return f"{numbers.words}: either the limit is lower than documented, or another client{uses}"
    return numbers.words if found.verdict == "as documented" else rate


def _shared(found: LimitFinding) -> Iterator[str]:
    """Describe which clients share the quota."""
    keys, limits = found.shared.get("other key"), found.shared.get("other limit")
    if keys:
        yield (
            "two keys from this address shared the limit: it is counted per account, per address or for all, "
            "not per key"
        )
    elif keys is False:
        yield "a second key had a quota of its own"
    if limits:
        yield "requests of another limit were rejected while this limit was exhausted: they share a quota"
    elif limits is False:
        yield "requests of another limit were accepted while this limit was exhausted"
    if keys is None or limits is None:
        unknown = [name for name, each in (("a second key", keys), ("another limit", limits)) if each is None]
        yield f"unknown for {' and '.join(unknown)}"


def retry_after(answers: Sequence[ProbeAnswer]) -> str:
    """Describe how accurate the rejections' ``Retry-After`` was.

    The limiter had room again between the last rejected request and the next accepted one.
    """
    rejected = [each for each in answers if not each.passed]
    having = [each for each in rejected if "retry-after" in each.headers]
    if not having:
        return "none was sent" if rejected else ""
    judged = early = late = 0
    for place, each in enumerate(answers):
        if each.passed or (over := _over(each)) is None:
            continue
        following = [other for other in answers[place + 1 :] if other.sent > each.answered]
        passing = next((number for number, other in enumerate(following) if other.passed), None)
        if passing is None:
            continue
        judged += 1
        accepted = following[passing]
        # A rejected request that overlaps the accepted one may have arrived after it.
        before = (other.sent for other in following[:passing] if other.answered <= accepted.sent)
        early += over < max(before, default=each.sent) - 0.05
        late += over > accepted.answered + _ROUNDED_S + 0.05
    share = f"{len(having)} of {len(rejected)} rejections have one"
    if not judged:
        return f"{share}; no request was accepted after them, so it cannot be checked"
    if not early and not late:
        return f"{share}; none is contradicted"
    return f"{share}; of {judged} that can be checked, {early} were too short and {late} too long"


def _over(each: ProbeAnswer) -> float | None:
    wanted = parse_retry_after(each.headers.get("retry-after", ""))
    return wanted.timestamp() if isinstance(wanted, datetime) else None if wanted is None else each.answered + wanted


def rate_limit_headers(answers: Sequence[ProbeAnswer]) -> str:
    """Describe the limits that headers state, and how often their remaining count was wrong."""
    texts: Counter[str] = Counter()
    promised = broken = 0
    for place, each in enumerate(answers):
        texts.update(str(limit) for limit in stated_limits(each.headers))
        left = remaining(each.headers)
        if left is None or place + 1 == len(answers) or answers[place + 1].sent < each.answered:
            continue
        if left > 0:
            promised += 1
            broken += not answers[place + 1].passed
    if not texts and not promised:
        return "none" if answers else ""
    words = ", ".join(text for text, _ in texts.most_common(3)) or "no limit"
    if promised:
        words += f"; of {promised} that promised room, {broken} were followed by a rejection"
    return words
