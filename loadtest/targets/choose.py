"""Which target is meant, and whether it may be loaded: loopback as it is, anything else by its entry only.

A production target is loaded only after its host name was typed at the terminal, or with ``--yes``.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from loadtest.errors import InputError
from loadtest.record.run_info import TlsInfo
from loadtest.strict import explain, nearest, read_toml
from loadtest.targets.address import Target, place, resolve
from loadtest.targets.connection import tls_context
from loadtest.targets.entry import TargetEntry, TargetsFile

TARGETS_FILE: Final = Path("targets.toml")
_FILE: Final = TypeAdapter(TargetsFile)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A target, and its entry where it has one: then the entry's request budget holds, loopback or not."""

    target: Target
    name: str | None = None
    entry: TargetEntry | None = None
    path: Path | None = None
    """The file of the entry."""

    def key(self, key: str) -> str:
        """Where a key of the entry stands, as messages name it: ``targets.toml: staging.max_share``."""
        return f"{self.path}: {self.name}.{key}"

    @property
    def tls(self) -> TlsInfo | None:
        """The files for TLS that the entry names, by their whole paths; None if it names none."""
        entry = self.entry
        if entry is None or (entry.ca is None and entry.client_certificate is None):
            return None
        folder = (self.path or TARGETS_FILE).resolve().parent
        ca, certificate, key = (
            None if name is None else str(folder / Path(name).expanduser())
            for name in (entry.ca, entry.client_certificate, entry.client_key)
        )
        return TlsInfo(ca=ca, certificate=certificate, key=key)

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries beyond the documented headers, as the entry says it."""
        return {} if self.entry is None else dict(self.entry.headers)


def load_targets(path: Path) -> dict[str, TargetEntry]:
    """Read a file of targets strictly.

    Raises:
        InputError: naming file, key and remedy, for all mistakes at once.
    """
    raw = read_toml(path)
    try:
        return _FILE.validate_python(raw)
    except ValidationError as error:
        lines = [f"{path}: {line}" for line in explain(error, raw, TargetsFile, "targets")]
        raise InputError("\n".join(lines)) from None


def choose(host: str | None, target: str | None, targets: Path | None = None) -> Chosen:
    """Find the target that is named by URL or by the name of its entry; one of both is needed.

    Args:
        host: a base URL. Anything that is not loopback needs an entry with the same scheme, host and port.
        target: the name of an entry.
        targets: the file; ``targets.toml`` in the working directory by default.

    Raises:
        InputError: if both or none are given, the file cannot be used, or it has no such entry.
    """
    if (host is None) == (target is None):
        raise InputError("name the target by --host or by --target", "Give one of the two.")
    path = targets or TARGETS_FILE
    if target is not None:
        if targets is None and not path.is_file():
            raise InputError(
                f"--target {target}: there is no {path} here",
                "Write one (see docs/targets.md), or give --targets FILE.",
            )
        entries = load_targets(path)
        if target not in entries:
            raise InputError(f"{path}: there is no target {target!r}{nearest(target, list(entries))}")
        return _with_entry(path, target, entries[target], entries[target].url)
    found = resolve(host or "")
    if found.loopback:
        return Chosen(found)
    entries = load_targets(path) if path.is_file() or targets is not None else {}
    return _with_entry(path, *_entry_of(found, entries, path), found.url, found)


def _entry_of(found: Target, entries: Mapping[str, TargetEntry], path: Path) -> tuple[str, TargetEntry]:
    """The one entry that is about the same server as a URL; of several, the one with the very same URL."""
    here = place(found.url)
    same = {name: entry for name, entry in entries.items() if entry.place == here}
    exact = {name: entry for name, entry in same.items() if entry.url == found.url}
    matches = exact if len(exact) == 1 else same
    if not matches:
        raise InputError(
            f"{found.server_name!r} is not a loopback address, and no entry in {path} has the scheme, host and port of "
            f"{found.url}",
            f"Add one to {path} (see docs/targets.md) once its owner has agreed, or leave out --host to load the "
            "embedded target.",
        )
    if len(matches) > 1:
        raise InputError(f"{path}: {found.url} is the server of {', '.join(matches)}", "Say which, with --target.")
    return next(iter(matches.items()))


def _with_entry(path: Path, name: str, entry: TargetEntry, url: str, found: Target | None = None) -> Chosen:
    chosen = Chosen(found or resolve(url), name, entry, path)
    if chosen.tls is not None:
        try:
            tls_context(chosen.tls)
        except InputError as error:
            raise InputError(f"{path}: {name}: {error.message}", error.remedy) from None
    return chosen


def confirm(chosen: Chosen, *, yes: bool) -> None:
    """Ask for the host name at the terminal, if the target is production; ``yes`` answers beforehand.

    Raises:
        InputError: if another name was typed, or there is nobody to ask.
    """
    entry = chosen.entry
    if entry is None or entry.environment != "production" or yes:
        return
    remedy = "Run it at a terminal and type the host name, or pass --yes (plain locust: LOADTEST_YES=1)."
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(
            f"{chosen.key('environment')} is production, and there is no terminal at which to confirm {entry.host!r}",
            remedy,
        )
    sys.stderr.write(f"{chosen.name} is production. Type its host name to load it: ")
    sys.stderr.flush()
    typed = sys.stdin.readline().strip()
    if typed.lower() != entry.host:
        raise InputError(f"{typed!r} is not {entry.host!r}, so nothing was sent", remedy)
