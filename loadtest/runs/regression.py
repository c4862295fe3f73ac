"""Checks of runs against a history, reruns of suspected regressions, and decisions on runs.

A rerun can be made on another machine, with the file ``suspects.json`` of the check.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal, Self

import msgspec

from loadtest.compare import history, history_file, measurements, results
from loadtest.compare.amounts import in_percent, listed
from loadtest.compare.history import DecisionLine, History, HistoryLine, HistoryRun, RunLine
from loadtest.compare.measurements import NATURES, Key, RunMeasurements, mismatch
from loadtest.compare.results import RunComparison
from loadtest.compare.rule import ANCHOR, blind, improved_again, judge_history
from loadtest.errors import ExitCode, InputError
from loadtest.program import command_line, complain, mention, pasteable
from loadtest.record.run_directory import find_run, read_versioned, write_json
from loadtest.runs.run import RunOptions, make_run, show_comparison
from loadtest.scenario import LoadedScenario, scenario_hash

SUSPECTS: Final = "suspects.json"
_SUSPECTS_SCHEMA: Final = 1
_REASON: Final = re.compile(r"[^\W\d_]{2,}.*?[\W\d_][^\W\d_]{2,}|[^\W\d_]{6,}", re.DOTALL)
"""A reason has at least two words, or one word of six letters or more, because some writing systems have no spaces."""
_NO_RUN: Final = {ExitCode.BUG, ExitCode.INTERRUPTED, ExitCode.ABORTED, ExitCode.USAGE, ExitCode.TARGET}
"""A run that ends with one of these exit codes is not compared."""
_PRECEDENCE: Final = (ExitCode.INVALID, ExitCode.REGRESSED, ExitCode.FAIL, ExitCode.INCONCLUSIVE, ExitCode.PASS)


class Suspect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suspected metric, with its values in the accepted runs (``base``) and in the suspected run (``head``)."""

    key: Key
    base: float | None
    head: float | None


class Repeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the suspected run, to repeat it. ``overrides`` are the values of ``--set``."""

    scenario: str
    overrides: tuple[str, ...]
    seed: int | None
    host: str | None
    target: str | None
    target_version: str
    place: str = msgspec.field(name="history")
    must_find: float | None = None


class Suspects(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of ``suspects.json``, with which another machine can rerun a suspected regression.

    The file has no API keys or headers.

    Attributes:
        suspects: the only metrics that the rerun can confirm.
        line: the suspected run's line of the history.
        history: the accepted runs that the suspected run was compared with, oldest first.
        noise: accepted runs of the previous baseline period, used only for their noise.
    """

    schema: int
    title: str
    repeat: Repeat
    suspects: tuple[Suspect, ...]
    line: RunLine
    history: tuple[RunMeasurements, ...]
    noise: tuple[RunMeasurements, ...] = ()


def load_suspects(path: Path) -> Suspects:
    """Read ``suspects.json`` from its path or its folder. Unknown keys are errors. Raises ``InputError``."""
    path = path / SUSPECTS if path.is_dir() else path
    remedy = "Copy it unchanged from the suspected run's directory, and use the same version of loadtest as the check."
    return read_versioned(path, Suspects, _SUSPECTS_SCHEMA, remedy=remedy, error=InputError)


@dataclass(frozen=True, kw_only=True)
class CheckOptions(RunOptions):
    """The options of a check. ``place`` is a history's .jsonl file, or a folder with a file for each scenario."""

    place: Path
    no_rerun: bool = False
    must_find: float | None = None
    fail_on_inconclusive: bool = False

    @classmethod
    def repeating(cls, repeat: Repeat, **given: Any) -> Self:
        """Return the options of the check that suspected a regression, overridden by the options given now."""
        again = {**msgspec.structs.asdict(repeat), "place": Path(repeat.place)}
        return cls(**{**again, **{name: value for name, value in given.items() if value is not None}})

    @property
    def command(self) -> str:
        given = {**self.of_target, "set": self.overrides, "seed": self.seed, "target_version": self.target_version}
        given["must_find"] = None if self.must_find is None else f"{100 * self.must_find:g}%"
        given["no_rerun"] = self.no_rerun
        return command_line("regression", "check", self.scenario, **given, **self._plain) + self.options

    def confirm(self, suspected: Path) -> str:
        return command_line("regression", "confirm", suspected, targets=self.targets, **self._plain) + self.options

    @property
    def _plain(self) -> dict[str, object]:
        return {
            "no_preflight": self.no_preflight,
            "fail_on_inconclusive": self.fail_on_inconclusive,
            "no_plots": not self.plots,
        }

    @property
    def options(self) -> str:
        """The command's options for the history and the folder of runs."""
        return command_line(history=self.place, output_dir=self.output_dir).removeprefix(command_line())

    @property
    def repeat(self) -> Repeat:
        known = {**vars(self), "place": str(self.place)}
        return Repeat(**{name: known[name] for name in Repeat.__struct_fields__})


def check(options: CheckOptions, confirming: Suspects | None = None) -> int:
    """Run the scenario, judge and record the run, and return the exit code.

    A suspected regression is rerun, unless ``no_rerun`` is set. With ``confirming``, this run is the rerun.

    Raises ``LoadtestError`` if the run could not start, the history is unusable, or the scenario is not that of
    ``confirming``.
    """
    loaded = options.load()
    settings = loaded.scenario.regression
    must_find = settings.must_find if options.must_find is None else options.must_find
    path = _history_path(loaded, options, None if confirming is None else confirming.line.run)
    directory, code = make_run(loaded, options)
    if code in _NO_RUN or not (directory / measurements.FILE_NAME).is_file():
        complain(f"{directory.name} was not completed or not measured: it is neither compared nor added to the history")
        return code or int(ExitCode.BUG)
    run = history.compact(measurements.read(directory))
    # The history is read after the run, because another check may have ended meanwhile.
    known = history_file.read(path).history
    if confirming is None:
        comparison, lines, found = _judged(loaded, run, known, options)
    else:
        comparison, lines, found = *_confirmed(confirming, run, known, settings.rise), None
    # The run is recorded even if this check could miss a rise by `must_find`: a longer history misses less.
    confirm = "" if found is None else options.confirm(directory / SUSPECTS)
    given = {"command": options.command, "place": options.options, "confirm": confirm}
    comparison = msgspec.structs.replace(blind(comparison, must_find), **given)
    results.save(comparison, directory)
    warn(history_file.append(path, *lines))
    if found is not None:
        write_json(directory / SUSPECTS, found, indent=1)
        if not options.no_rerun:
            print(f"\n{comparison.sentence}\nRerunning: only the suspected metrics can confirm the regression.\n")
            # The user confirmed the target before the first run, and need not confirm it again.
            again = check(dataclasses.replace(options, yes=True), found)
            return again if again in _NO_RUN else _exit_code(code, again, directory, options)
    show_comparison(directory, comparison, plots=options.plots, history=path)
    if comparison.confirm:
        print(pasteable(f"Suspected, not confirmed. To confirm, run `{comparison.confirm}`, best on another machine."))
    return _exit_code(code, comparison.exit_code, directory, options)


def _history_path(loaded: LoadedScenario, options: CheckOptions, suspected: RunMeasurements | None) -> Path:
    """Return the history's file. Raises ``InputError`` if it is not writable, or a rerun's scenario has changed."""
    if suspected is None:
        path = history_file.path_for(options.place, loaded.name)
        warn(history_file.read(path).warnings)
    elif (now := scenario_hash(loaded.scenario)) == suspected.scenario_hash:
        path = history_file.path_for(options.place, suspected.scenario)
    else:
        raise InputError(
            f"{loaded.path} is not the suspected scenario: its hash is {now}, not {suspected.scenario_hash}",
            "Check out the same commit, and use the same files.",
        )
    history_file.check_writable(path)
    return path


def _exit_code(own: int, compared: int, directory: Path, options: CheckOptions) -> int:
    """Return the more severe of two exit codes: the run's own, and that of its comparison or rerun."""
    decided = next((each for each in _PRECEDENCE if each in {own, compared}), compared)
    code = int(ExitCode.FAIL if decided == ExitCode.INCONCLUSIVE and options.fail_on_inconclusive else decided)
    if decided != compared:
        shown = command_line("report", directory)
        complain(f"the exit code is {code} because of the run itself, not because of the comparison. See `{shown}`.")
    return code


def _judged(
    loaded: LoadedScenario, run: RunMeasurements, known: History, options: CheckOptions
) -> tuple[RunComparison, list[HistoryLine], Suspects | None]:
    """Judge a first run. Return its comparison, the lines for the history, and the suspicion to confirm, if any."""
    evidence, noise = known.evidence(run)
    scenario = loaded.scenario
    comparison = judge_history(evidence, run, title=scenario.title, rise=scenario.regression.rise, noise=noise)
    line = history.run_line(run, comparison.word, sentence=comparison.sentence)
    lines: list[HistoryLine] = [line]
    suspects = tuple(
        Suspect(key=each.key, base=each.base, head=each.head) for each in comparison.metrics if each.suspect
    )
    found = None
    if suspects:
        found = Suspects(
            schema=_SUSPECTS_SCHEMA,
            title=comparison.title,
            repeat=options.repeat,
            suspects=suspects,
            line=line,
            history=tuple(evidence),
            noise=tuple(noise),
        )
    # A period begins only if the comparison passes, because a service that fails can be fast.
    matching = [one for one in evidence if not mismatch(one, run)]
    if comparison.word == "pass" and (period := _new_period(known, matching, run)):
        lines.append(period)
        undo = command_line("regression", "accept", period.run, reason="keep the old baseline") + options.options
        note = f"A new baseline period begins with {period.run}: {period.reason}. To undo it, run `{undo}`."
        comparison = msgspec.structs.replace(comparison, reasons=(*comparison.reasons, pasteable(note)))
    return comparison, lines, found


def _confirmed(
    found: Suspects, run: RunMeasurements, known: History, rise: float | None
) -> tuple[RunComparison, list[HistoryLine]]:
    """Judge a rerun. Return its comparison, and the lines for the history."""
    suspected = found.line.run
    keys = {each.key for each in found.suspects}
    comparison = judge_history(found.history, run, confirming=keys, title=found.title, rise=rise, noise=found.noise)
    comparison = msgspec.structs.replace(
        comparison,
        runs=tuple(dict.fromkeys((*comparison.runs[:-1], suspected.run, run.run))),
        head_runs=(suspected, *(each for each in comparison.head_runs if each.run != suspected.run)),
    )
    # If another machine makes the rerun, its history may lack the line of the suspected run.
    lines: list[HistoryLine] = [found.line] if known.find(suspected.run) is None else []
    lines.append(history.run_line(run, comparison.word, sentence=comparison.sentence, confirms=suspected.run))
    if comparison.word == "pass":
        # The unconfirmed suspicion was noise. Without such runs the history would underestimate the noise.
        lines.append(history.decision_line(suspected.run, "accepted", f"{history.NOT_CONFIRMED} {run.run}"))
    return comparison, lines


def _new_period(known: History, evidence: Sequence[RunMeasurements], run: RunMeasurements) -> DecisionLine | None:
    """Return the decision to begin a baseline period with the previous accepted run, if it and this run improved.

    A check never overrules the user: the result is None if the user decided on one of the latest accepted runs.
    """
    keys = improved_again(evidence, run)
    if not keys or known.decided(evidence[-ANCHOR:]):
        return None
    names = listed([f"{key.traffic}: {NATURES[key.metric].name}" for key in keys])
    reason = f"{history.IMPROVED_AGAIN} {run.run}: {names}"
    return history.decision_line(evidence[-1].run, "accepted", reason, new_segment=True)


def warn(messages: Sequence[str]) -> None:
    """Print warnings to standard error."""
    for message in messages:
        complain(message)


def decide(
    run: str,
    status: Literal["accepted", "rejected"],
    *,
    reason: str,
    place: Path,
    output_dir: Path,
    new_segment: bool = False,
) -> None:
    """Record and print a decision on a run and its rerun, if any. Accepting a regression starts a new baseline period.

    Raises ``InputError`` if the run does not exist or is invalid, or the reason is too short.
    """
    if not _REASON.search(reason):
        raise InputError(
            f"--reason {reason!r} does not say why the run is {status}",
            "Give the reason in words, such as --reason 'new parser, agreed with its users'.",
        )
    path, name, runs, lines = _found(run, place, output_dir)
    # If the rerun is invalid, a decision on the run itself is still possible.
    valid = [each for each in runs if each.status != "invalid"]
    evidence = not lines and all(each.status == "accepted" for each in valid)
    if name not in {each.id for each in valid}:
        raise InputError(f"{name} is invalid or did not finish, so it cannot be {status}", "Run the check again.")
    start = status == "accepted" and (new_segment or any(each.line.verdict == "regressed" for each in valid))
    begins = valid[0].id if start else None
    lines += [history.decision_line(each.id, status, reason.strip(), new_segment=each.id == begins) for each in valid]
    before = history_file.read(path).history
    repaired = history_file.append(path, *lines)
    for each in valid:
        print(f"{each.id}: {status}{'; this run starts a new baseline period' if each.id == begins else ''}")
    if status == "accepted":
        _show_effect(before, history_file.read(path).history, valid[-1].measurements)
        verb, why = ("accept", "keep the old baseline") if evidence else ("reject", "accepted by mistake")
        undo = command_line("regression", verb, name, reason=why, history=path)
        print(pasteable(f"To undo it, run `{undo}`."))
    warn(repaired)


def _show_effect(before: History, after: History, run: RunMeasurements) -> None:
    """Print the minimum detectable change before and after an acceptance, and a note if the run is not comparable."""
    accepted = [each.measurements for each in before.runs if each.status == "accepted" and each.id != run.run]
    if accepted and (field := mismatch(accepted[-1], run)):
        print(f"{run.run} is not comparable with the latest other accepted run: {field}.")
    # The next run is assumed to be like this run. Its id differs, because a run is not evidence for itself.
    following = msgspec.structs.replace(run, run="next")
    medians = []
    for known in (before, after):
        evidence, noise = known.evidence(following)
        found = judge_history(evidence, following, noise=noise)
        sizes = sorted(one.detectable for one in found.metrics if one.detectable and in_percent(one))
        medians.append(f"+{100 * (median(sizes) - 1):.3g} %" if sizes else "none (still learning)")
    print(f"Minimum detectable change of the next check (median): {medians[0]} before, {medians[1]} now.")


def _found(run: str, place: Path, output_dir: Path) -> tuple[Path, str, list[HistoryRun], list[HistoryLine]]:
    """Return the history file and id of a run, the run with its rerun, and a new line if no history has the run."""
    try:
        directory = find_run(run, output_dir)
    except InputError:
        directory = None
    name = run if directory is None else directory.name
    for path in [place] if place.suffix == history_file.ENDING else sorted(place.glob(f"*{history_file.ENDING}")):
        if runs := history_file.read(path).history.with_rerun(name):
            return path, name, runs, []
    if directory is None:
        raise InputError(
            f"{run!r} is neither in a history of {place} nor a run in {output_dir}",
            f"{mention('regression', 'history', history=place)} lists the runs.",
        )
    found = history.compact(measurements.read(directory))
    compared = (directory / results.FILE_NAME).exists()
    line = history.run_line(found, results.load(directory, InputError).word if compared else "not judged")
    return history_file.path_for(place, found.scenario), found.run, list(history.fold([line]).runs), [line]
