"""What generator processes know of themselves, as tables."""

from collections.abc import Iterator

from loadtest.analysis.findings import Findings
from loadtest.analysis.numbers import NOTHING, count
from loadtest.analysis.validity import Generator, generators
from loadtest.record.run_info import PauseInfo
from loadtest.report.tables.table import Cell, Table


def generator_tables(findings: Findings) -> tuple[Table, ...]:
    """A row for each generator process, and one for each of its pools; none of older records."""
    found = generators(findings.record.info)
    return (_processes(found), _pools(found)) if found else ()


def _processes(found: list[Generator]) -> Table:
    columns = (
        ("Process", False), ("CPU mean %", True), ("peak", True), ("machine mean %", True), ("peak", True),
        ("stalls", True), ("longest ms", True), ("collections", True), ("longest ms", True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(_name(one, found), "lost" if one.lost else "", tone="head"),
            *_load(one.cpu_mean, one.cpu_peak),
            *_load(one.machine_mean, one.machine_peak),
            *_pauses(one.stalls),
            *_pauses(one.collections),
        )
        for one in found
    )
    note = (
        "CPU by the second: 100 % is one core of a process, and all cores of a machine. Stalls: the event loop woke at "
        "least 50 ms late; collections: of garbage, at least 10 ms long."
    )
    return Table("generators", "Generator processes", columns, rows, note)


def _pools(found: list[Generator]) -> Table:
    columns = (
        ("Users of", False), ("Process", False), ("at first", True), ("in the end", True), ("at most", True),
        ("arrivals that waited", True), ("longest ms", True), ("full for s", True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(traffic, tone="head"),
            Cell(_name(one, found)),
            *(Cell(count(number)) for number in (pool.started, pool.size, pool.cap)),
            Cell(count(pool.waited), tone="bad" if pool.waited else ""),
            Cell(f"{pool.longest_wait_ms:.0f}" if pool.waited else NOTHING),
            Cell(f"{pool.full_s:.2f}"),
        )
        for one in found
        for traffic, pool in one.pools.items()
    )
    note = "A pool grows while few of its users are idle. Where none is, arrivals wait, and response times count it."
    return Table("generators-pools", "Pools of users", columns, rows, note)


def _name(one: Generator, found: list[Generator]) -> str:
    if len(found) == 1:
        return "generator"
    return f"worker {one.worker}" if one.worker else "master"


def _load(*percents: float | None) -> Iterator[Cell]:
    return (Cell(NOTHING if value is None else f"{value:.0f}") for value in percents)


def _pauses(pauses: PauseInfo) -> tuple[Cell, Cell]:
    return Cell(count(pauses.count)), Cell(f"{pauses.longest_ms:.0f}" if pauses.count else NOTHING)
