"""Parts of an imported run's page: the log as its source, and what a log cannot show."""

from loadtest.analysis.findings import Findings
from loadtest.analysis.run_record import Record
from loadtest.record.log_source import SourceInfo
from loadtest.report.page import Point
from loadtest.words import count, duration_ms


def log_facts(record: Record, source: SourceInfo) -> dict[str, str]:
    """Return the facts of a log by their labels."""
    keys = {"header": "API keys", "address": "client addresses", "none": "no keys, so all share a limit"}[source.key]
    stamps = f"of {duration_ms(1e3 * source.grain_s)}, at a request's {source.stamp}"
    return {
        "Log": f"{source.format}, {count(source.lines)} lines: {count(source.unknown_lines)} not understood, "
        f"{count(source.other_lines)} of other paths",
        "Stamps": stamps + ("" if source.zone else ", without a time zone: taken as UTC"),
        "Keys": keys if source.key == "none" else f"{count(record.info.keys)} {keys}, as numbers",
    }


def start_of(record: Record) -> str:
    """Return the term for an operation's beginning: a log has no intended starts."""
    return "start" if record.info.imported else "intended start"


def times_note(source: SourceInfo) -> Point:
    """Return a line about the meaning of an imported run's times."""
    if source.service_times:
        return Point("Times are the log's durations (service times). They exclude any wait in the client.")
    return Point(
        "The log has no durations, so there are no times.", "nginx: add $request_time; HAProxy: option httplog."
    )


def unknown_to_logs(findings: Findings) -> tuple[Point, ...]:
    """Return what the run's log cannot show, with reasons as details."""
    if (source := findings.record.info.source) is None:
        return ()
    unknown = (
        (not source.service_times, "any response time", "the log has no durations"),
        (True, "when clients meant to send", "response times exclude the wait before a request was sent"),
        (True, "what became of jobs", "a log names neither a submit's job nor a job's state"),
        (True, "which retrievals were polls", "all count as retrievals"),
        (True, "requests that did not reach the log", ""),
        (source.coarse, "the order of requests within a second", "stamps are of whole seconds"),
        (source.key == "address", "which requests shared an API key", "client addresses replace the keys"),
        (source.key == "none", "whether limits are per key", "the log has neither keys nor addresses"),
    )
    return tuple(Point(text, why) for applies, text, why in unknown if applies)
