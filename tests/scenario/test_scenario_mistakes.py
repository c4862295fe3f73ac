"""Mistakes in a scenario: each is refused with the file, the key as it is written, and what would be right."""

import re
from typing import Any

import pytest

from loadtest.errors import ExitCode, InputError

# (where, what is put there, the key that the message names, words that it holds)
MISTAKES: list[tuple[str, Any, str, str]] = [
    # unknown keys, at every level
    ("titel", "x", "titel", "did you mean 'title'"),
    ("traffic.greetings.arivals", "even", "traffic.greetings.arivals", "did you mean 'arrivals'"),
    ("traffic.greetings.stages.0.rat", "5/s", "traffic.greetings.stages.within.rat", "did you mean 'rate'"),
    ("traffic.jobs.stages.0.form", "5/s", "traffic.jobs.stages.climb.form", "did you mean 'from'"),
    ("traffic.jobs.polling.intervall", "1s", "traffic.jobs.polling.intervall", "did you mean 'interval'"),
    ("traffic.jobs.retry.polcy", "none", "traffic.jobs.retry.polcy", "did you mean 'policy'"),
    ("traffic.jobs.mistakes.bad_keys", 1, "traffic.jobs.mistakes.bad_keys", "did you mean 'bad_key'"),
    ("target.key", 5, "target.key", "did you mean 'keys'"),
    ("target.enforce.sync", "1/s", "target.enforce.sync", "did you mean 'sync_run'"),
    ("target.answers", {"queue_ful": "429"}, "target.answers.queue_ful", "did you mean 'queue_full'"),
    ("target.answers", {"queue_full": "200"}, "target.answers.queue_full", ""),
    ("threshold.0.reqire", "x", "threshold.0.reqire", "did you mean 'require'"),
    ("breakers.aut", True, "breakers.aut", "did you mean 'auth'"),
    ("xyzzy", 1, "xyzzy", "known here: title, "),
    ("[key]", 1, "[key]", "unknown key"),
    ("target.fault.0.mss", 1, "target.fault.0.mss", "unknown key of latency. Did you mean 'ms'?"),
    # wrong words
    ("target.fault.0.kind", "latncy", "target.fault.0.kind", "there is no fault 'latncy'. Did you mean 'latency'?"),
    ("target.fault.0.on", "retrival", "target.fault.0.on", "'retrival' is not valid here; did you mean 'retrieval'?"),
    ("target.fault.0.start", 1, "target.fault.0.start", "1 is not a duration"),
    ("target.fault", ["freeze"], "the first of target.fault", "a fault must be a table with a kind"),
    ("target.fault.1.key", 9, "target.fault.1.key", "there is no key 9. There are 2 keys"),
    ("traffic.greetings.operation", "sync-run", "traffic.greetings.operation", "did you mean 'sync_run'"),
    ("traffic.greetings.arrivals", "evn", "traffic.greetings.arrivals", "did you mean 'even'"),
    ("threshold.1.operation", "asyncrun", "threshold.1.operation", "did you mean 'async_run'"),
    ("traffic.jobs.expect.job", "done", "traffic.jobs.expect.job", "known here: completed, failed"),
    # wrong types
    ("title", 5, "title", "5 is not a text"),
    ("seed", "7", "seed", "'7' is not a whole number from 0 to"),
    ("seed", True, "seed", "not a whole number"),
    ("seed", -1, "seed", "-1 is not a whole number from 0 to 9,2"),
    ("seed", 2**63, "seed", "is not a whole number from 0"),
    ("traffic", [], "traffic", "table"),
    ("traffic", {}, "traffic", "{} is not a table of at least 1 entry"),
    ("traffic.greetings", "x", "traffic.greetings", "table"),
    ("traffic.greetings.stages", [], "traffic.greetings.stages", "at least 1"),
    ("traffic.greetings.stages", "x", "traffic.greetings.stages", "list"),
    ("traffic.greetings.parameters", [1], "traffic.greetings.parameters", "table"),
    ("traffic.greetings.parameters.x", float("nan"), "traffic.greetings.parameters", "JSON has no such number"),
    ("traffic.greetings.parameters.x", 2**64, "traffic.greetings.parameters", "64 bits"),
    ("traffic.greetings.max_users", 0, "traffic.greetings.max_users", "0 is not a whole number from 1 to 20,000"),
    ("target.enforce.sync_run", 5, "target.enforce.sync_run", "100/60s"),
    # units
    ("warmup", "5", "warmup", "not a duration: write a number and its unit"),
    ("warmup", 5, "warmup", "not a duration"),
    ("warmup", "-5s", "warmup", "not a duration"),
    ("warmup", "5 parsecs", "warmup", "not a duration"),
    ("warmup", "169h", "warmup", "longer than a week"),
    ("traffic.greetings.timeout", "0s", "traffic.greetings.timeout", "must be above zero"),
    ("traffic.greetings.stages.0.duration", "0s", "traffic.greetings.stages.within.duration", "above zero"),
    ("traffic.greetings.stages.0.rate", "5", "traffic.greetings.stages.within.rate", "not a rate: write '5/s'"),
    ("traffic.greetings.stages.0.rate", 5, "traffic.greetings.stages.within.rate", "not a rate"),
    ("traffic.greetings.stages.0.rate", "5/day", "traffic.greetings.stages.within.rate", "not a rate"),
    ("traffic.greetings.stages.0.rate", "-5/s", "traffic.greetings.stages.within.rate", "not a rate"),
    ("traffic.greetings.stages.0.rate", "100001/s", "traffic.greetings.stages.within.rate", "impossible rate"),
    ("traffic.greetings.stages.0.rate", "1001x limit", "traffic.greetings.stages.within.rate", "impossible rate"),
    ("traffic.jobs.stages.1.burst", "5/s", "traffic.jobs.stages.burst.burst", "not a burst"),
    ("traffic.jobs.stages.1.burst", 0, "traffic.jobs.stages.burst.burst", "not a burst"),
    ("traffic.jobs.stages.1.burst", True, "traffic.jobs.stages.burst.burst", "not a burst"),
    ("traffic.jobs.stages.0.step", "0." + "0" * 330 + "1/s", "traffic.jobs.stages.climb", "step"),
    ("traffic.jobs.mistakes.bad_key", "101%", "traffic.jobs.mistakes.bad_key", "not a share"),
    ("traffic.jobs.mistakes.bad_key", 10**400, "traffic.jobs.mistakes.bad_key", "not a share"),
    ("target.enforce.sync_run", "100/0s", "target.enforce.sync_run", "not a limit"),
    ("target.enforce.sync_run", "9" * 400 + "/s", "target.enforce.sync_run", "not a limit"),
    ("target.run_timeout", "0s", "target.run_timeout", "must be above zero"),
    ("target.answers.queue_full", "429/a\0b", "target.answers.queue_full", "write STATUS, /CODE or STATUS/CODE"),
    # what does not fit together
    ("target.retry_after_factor", 2, "target.retry_after_factor", "no effect without retry_after"),
    ("target.burst", 5, "target.burst", "fixed-window has no burst"),
    ("target.count_rejected", True, "target.count_rejected", "does not change fixed-window"),
    ("target.algorithm", "sliding-lg", "target.algorithm", "did you mean 'sliding-log'"),
    ("traffic.bad name", {}, "traffic.bad name", "is not a name"),
    ("traffic.greetings.stages.1.name", "within", "traffic.greetings", "distinct names"),
    ("traffic.greetings.stages.1.name", "warmup", "traffic.greetings", "'warmup' is reserved"),
    ("traffic.greetings.polling", {}, "traffic.greetings", "async_run"),
    ("traffic.greetings.seed_jobs", 5, "traffic.greetings", "retrieval"),
    ("traffic.greetings.stages.0.burst", 5, "traffic.greetings.stages.within", "one of rate, burst"),
    ("traffic.jobs.keys", "al", "key_groups", "no key group 'al', which traffic.jobs.keys names; did you mean 'all'?"),
    ("traffic.jobs.polling.give_up", "100ms", "traffic.jobs.polling", "no poll would be sent"),
    # thresholds and their scopes
    ("threshold.0.require", "response_time.p51 < 1s", "threshold.0", "Name a statistic of it: response_time.mean"),
    ("threshold.0.require", "response_time.p50 < 800", "threshold.0", "800ms or 1.5s"),
    ("threshold.0.traffic", "greeting", "threshold.0.traffic", "there is no traffic 'greeting'; did you mean 'gr"),
    ("threshold.0.stage", "withn", "threshold.0.stage", "there is no stage 'withn'; did you mean 'within'?"),
    ("threshold.0.operation", "sync_run", "threshold.0", "not both"),
    ("threshold.1.operation", "sync_run", "threshold.1.require", "only async_run has time_to_result.p95"),
    ("threshold.2.require", "response_time.p50 < 1s", "threshold.2", "add one of these keys"),
    ("threshold.2.stage", "within", "threshold.2", "stage needs a traffic or an operation"),
    ("threshold.0.require", "goodput > 1.2 stage above", "threshold.0", "is not a relative threshold"),
    ("threshold.0.require", "goodput > 1.2x stage abve", "threshold.0.require", "there is no stage 'abve'; did you"),
    ("threshold.0.require", "goodput > 1.2x stage within", "threshold.0.require", "threshold is relative to itself"),
    ("threshold.0.require", "goodput > 1x traffic jbs", "threshold.0.require", "there is no traffic 'jbs'; did"),
    ("threshold.0.require", "goodput > 1x traffic jobs", "threshold.0.require", "traffic 'jobs' has no stage 'within'"),
    ("threshold.2.require", "goodput > 1x stage within", "threshold.2", "a relative threshold needs a traffic"),
    # comparisons
    ("compare", {}, "compare", "must be a list: write [[compare]]"),
    ("compare", [{"entries": ["greetings", "jobs"]}], "compare.0.by", "is missing"),
    ("compare", [{"by": ["goodput"]}], "compare.0", "give entries (alternatives), or entry with stages (an effect)"),
    ("compare", [{"entries": ["jobs"], "by": ["goodput"]}], "compare.0.entries", "is not a list of 2 to 12 entries"),
    ("compare", [{"entries": ["jobs", "jobs"], "by": ["goodput"]}], "compare.0", "entries contains duplicates"),
    ("compare", [{"entry": "jobs", "by": ["goodput"]}], "compare.0", "entry and stages belong together"),
    ("compare", [{"entires": ["jobs", "lookups"], "by": ["goodput"]}], "compare.0.entires", "did you mean 'entries'"),
    (
        "compare", [{"entries": ["jobs", "greetngs"], "by": ["goodput"]}], "compare.0.entries",
        "there is no traffic 'greetngs'; did you mean 'greetings'?",
    ),
    (
        "compare", [{"entry": "greetings", "stages": ["within", "abov"], "by": ["goodput"]}], "compare.0.stages",
        "there is no stage 'abov'; did you mean 'above'?",
    ),
    (
        "compare", [{"entries": ["greetings", "jobs"], "by": ["polls.mean"]}], "compare.0.by",
        "only async_run has polls.mean, and greetings is a sync_run",
    ),
    (
        "compare", [{"entries": ["greetings", "jobs"], "by": ["response_time.p51"]}], "compare.0.the first of by",
        "is not a metric. Name a statistic of it: response_time.mean",
    ),
]  # fmt: skip


def put(table: Any, where: str, value: Any) -> None:
    """Put a value at a dotted place."""
    *parents, last = where.split(".")
    for part in parents:
        table = table[int(part)] if isinstance(table, list) else table.setdefault(part, {})
    table[last] = value


def keyed(line: str) -> str:
    """A message with places in lists as above: ``the second [[compare]] (line 9), by`` is compare.1.by."""

    def key(found: re.Match[str]) -> str:
        return f"{found[2]}.{('first', 'second', 'third').index(found[1])}{'.' if found[3] else ''}"

    return re.sub(r"^the (\w+) \[\[([\w.]+)\]\](?: \(line \d+\))?(, )?", key, line)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_mistake_is_named(load: Any, whole: Any, mistake: tuple[str, Any, str, str]) -> None:
    """One change to a valid scenario: some line is FILE: KEY: what is wrong, and the exit code is that of usage."""
    where, value, key, words = mistake
    put(whole, where, value)
    with pytest.raises(InputError) as caught:
        load(whole)
    lines = [keyed(line.partition("mine.toml: ")[2]) for line in str(caught.value).splitlines()]
    assert [line for line in lines if line.startswith(f"{key}: ") and words in line], lines
    assert caught.value.exit_code is ExitCode.USAGE


def test_all_mistakes_are_named_at_once(load: Any, whole: Any) -> None:
    """Nobody has to run a scenario three times to find its three mistakes."""
    whole["titel"] = "x"
    whole["traffic"]["greetings"]["arrivals"] = "evn"
    whole["target"]["keys"] = 0
    with pytest.raises(InputError) as caught:
        load(whole)
    assert len(str(caught.value).splitlines()) == 3


def test_all_wrong_references_are_named_at_once(load: Any, whole: Any) -> None:
    """References are checked wherever the traffic itself is valid, whatever else is wrong."""
    whole["threshold"][0] |= {"stage": "withn", "require": "goodput > 1x stage abve"}
    whole["compare"] = [{"entries": ["jbs", "lokups"], "by": ["goodput"]}]
    whole["traffic"]["jobs"]["keys"] = "al"
    whole["regression"] = {"rise": 2}
    with pytest.raises(InputError) as caught:
        load(whole)
    lines = [keyed(line.partition("mine.toml: ")[2]) for line in str(caught.value).splitlines()]
    assert [line.partition(": ")[0] for line in lines] == [
        "key_groups",
        *("threshold.0.stage", "threshold.0.require", "compare.0.entries", "compare.0.entries"),
        "regression.rise",
    ]


@pytest.mark.parametrize("operation", ["sync_run", "async_run"])
def test_a_run_needs_a_workflow(load: Any, whole: Any, operation: str) -> None:
    """Only a retrieval can do without one."""
    name = {"sync_run": "greetings", "async_run": "jobs"}[operation]
    del whole["traffic"][name]["workflow"]
    with pytest.raises(InputError, match=f"traffic.{name}: operation = '{operation}' needs a workflow"):
        load(whole)
