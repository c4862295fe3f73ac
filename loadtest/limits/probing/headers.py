"""Headers of a limit's answers during a probe, and whether they were true: no decision of the probe rests on them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from loadtest.http_headers import parse_retry_after

_ROUNDED_S: Final = 1.0
"""Seconds by which a wait in whole seconds may be longer than it has to be: RFC 9110, section 10.2.3, has no
fractions."""
_LIMIT: Final = re.compile(r"^(?:x-)?rate-?limit-limit$")
_REMAINING: Final = re.compile(r"^(?:x-)?rate-?limit-remaining$")
_POLICY: Final = re.compile(r"""("[^"]*"|[\w*-]+)((?:\s*;\s*[a-z*][\w.*-]*(?:=(?:"[^"]*"|:[^:]*:|[^;,\s]*))?)*)""")
_PARAMETER: Final = re.compile(r""";\s*([a-z*][\w.*-]*)(?:=("[^"]*"|:[^:]*:|[^;,\s]*))?""")


@dataclass(frozen=True, slots=True)
class HeadedAnswer:
    """An answer and its headers.

    Attributes:
        sent: in unix seconds of our clock.
        answered: likewise.
        rejected: whether a limit rejected it.
        headers: by name, in lower case.
    """

    sent: float
    answered: float
    rejected: bool
    headers: Mapping[str, str]


def retry_after(answers: Sequence[HeadedAnswer]) -> str:
    """What the refusals' ``Retry-After`` was worth, in words.

    When room came is known to lie between the last request that was rejected and the next that passed.
    """
    rejected = [each for each in answers if each.rejected]
    having = [each for each in rejected if "retry-after" in each.headers]
    if not having:
        return "none was sent" if rejected else ""
    judged = early = late = 0
    for place, each in enumerate(answers):
        if not each.rejected or (over := _over(each)) is None:
            continue
        following = [other for other in answers[place + 1 :] if other.sent > each.answered]
        passing = next((number for number, other in enumerate(following) if not other.rejected), None)
        if passing is None:
            continue
        judged += 1
        last = max((other.sent for other in following[:passing]), default=each.sent)
        early += over < last - 0.05
        late += over > following[passing].answered + _ROUNDED_S + 0.05
    share = f"{len(having)} of {len(rejected)} refusals have one"
    if not judged:
        return f"{share}; nothing passed after them that would show whether it is true"
    if not early and not late:
        return f"{share}, and none is contradicted"
    return f"{share}; of {judged} that can be judged, {early} were too short and {late} too long"


def _over(each: HeadedAnswer) -> float | None:
    wanted = parse_retry_after(each.headers.get("retry-after", ""))
    return wanted.timestamp() if isinstance(wanted, datetime) else None if wanted is None else each.answered + wanted


def stated_limits(answers: Sequence[HeadedAnswer]) -> str:
    """Which limits the headers state, and how often their remaining count was contradicted, in words."""
    stated: Counter[str] = Counter()
    promised = broken = 0
    for place, each in enumerate(answers):
        stated.update(_stated(each.headers))
        left = _remaining(each.headers)
        if left is None or place + 1 == len(answers) or answers[place + 1].sent < each.answered:
            continue
        if left > 0:
            promised += 1
            broken += answers[place + 1].rejected
    if not stated and not promised:
        return "none" if answers else ""
    words = ", ".join(name for name, _ in stated.most_common(3)) or "no limit"
    if promised:
        words += f"; of {promised} that promised room, {broken} were followed by a refusal"
    return words


def _stated(headers: Mapping[str, str]) -> list[str]:
    found = [f"{name}: {value[:40]}" for name, value in headers.items() if _LIMIT.match(name)]
    for name, parameters in _items(headers.get("ratelimit-policy", "")):
        unit = parameters.get("qu", "").strip('"')
        words = f"RateLimit-Policy {name}: {parameters.get('q', '?')} {unit or 'requests'}"
        words += f" per {parameters['w']} s" if "w" in parameters else ""
        found.append(words + (", for a partition (pk)" if "pk" in parameters else ""))
    return found


def _remaining(headers: Mapping[str, str]) -> int | None:
    counts = [value for name, value in headers.items() if _REMAINING.match(name)]
    counts += [parameters["r"] for _, parameters in _items(headers.get("ratelimit", "")) if "r" in parameters]
    read = [int(count[:12]) for count in counts if count.isascii() and count.isdecimal()]
    return min(read) if read else None


def _items(text: str) -> list[tuple[str, dict[str, str]]]:
    """The items of a RateLimit field, each with its parameters (draft-ietf-httpapi-ratelimit-headers)."""
    return [(match[1].strip('"'), dict(_PARAMETER.findall(match[2]))) for match in _POLICY.finditer(text) if match[2]]
