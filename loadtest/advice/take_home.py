"""The advised client as a file for users. It is ``client.py`` of this folder with the numbers of an advice."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtest.advice.results import Advice
from loadtest.advice.work import Candidate, Limits
from loadtest.contract import LIMIT_NAMES, LimitName
from loadtest.limits import CONCURRENCY, at_once

_TEMPLATE: Final = Path(__file__).with_name("client.py")
_JITTER_S: Final = 0.02
"""A request's time to the server is assumed to vary by at least this many seconds."""
_MOST_UNFINISHED: Final = 10_000
_COUNTERS: Final = ("sliding-counter", "sliding-counter-from-first")


def client_text(found: Advice, limits: Limits) -> str:
    """Return the client's source."""
    numbers = {name: pace(limits, [name], found.clients) for name in LIMIT_NAMES}
    rows = "".join(f'    "{name}": {each},\n' for name, each in numbers.items())
    polls = found.poll_times_s or (found.execution_s[-1],)
    text = _TEMPLATE.read_text(encoding="utf-8").replace("from the documentation", f"from {found.source}", 1)
    values = {
        "SHARED": repr(limits.shared),
        "JITTER": f"{_jitter_s(limits):.4g}",
        "CLIENTS": str(found.clients),
        "POLLS: tuple[float, ...]": f"({', '.join(f'{each:.4g}' for each in polls)},)",
        "UNFINISHED": f"{min(_MOST_UNFINISHED, limits.unfinished(found.execution_s[-1]) / found.clients):.0f}",
    }
    for name, value in values.items():
        text = re.sub(rf"^({re.escape(name)} =) .*?(  #.*)$", rf"\1 {value}\2", text, flags=re.MULTILINE)
    head, _, rest = text.partition("]] = {\n")
    return f"{head}]] = {{\n{rows}{rest[rest.index('}') :]}"


def _jitter_s(limits: Limits) -> float:
    return max(_JITTER_S, limits.jitter_s)


def pace(limits: Limits, names: Sequence[LimitName], clients: int = 1) -> tuple[int, float, int, float]:
    """Return a COUNT, SECONDS, BURST and SPACING that every candidate for these limits accepts."""
    each = [_rule(one, clients, _jitter_s(limits)) for name in names for one in limits.candidates[name]]
    counts, seconds, bursts, spacings = zip(*each, strict=True)
    return min(counts), max(seconds), min(bursts), max(spacings)


def _rule(candidate: Candidate, clients: int, jitter_s: float) -> tuple[int, float, int, float]:
    limit, strict = candidate.limit, candidate.stricter(jitter_s)
    count = max(1, limit.count - 1)
    if clients > 1 or candidate.algorithm in (*_COUNTERS, CONCURRENCY):
        return count, limit.window, 1, float(f"{candidate.spacing(clients, jitter_s):.4g}")
    if candidate.windowed:
        return count, limit.window, count, 0.0
    burst = at_once(strict.spec, strict.limit)
    if strict.spec.on_clock:  # A bucket that refills in whole seconds may be short of a second's tokens.
        burst = max(1, burst - 1 - math.ceil(limit.rate))
    return limit.count + burst, limit.window, burst, strict.limit.window / limit.count
