"""Choice of the target. Every host except loopback needs an entry in ``targets.toml``.

To load a production target, the user types its host name or gives ``--yes``.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import DOCUMENTED
from loadtest.errors import InputError, LoadtestError, TargetError
from loadtest.processes import is_loopback
from loadtest.record.run_info import Preflight, TlsInfo
from loadtest.targets.connection import TARGETS_FILE, Target, check_reachable, resolve, server_of, tls_context
from loadtest.targets.entry import TargetEntry, entry_named, load_targets


@dataclass(frozen=True, slots=True)
class NamedEntry:
    """An entry with its name and file. Its host is not resolved. If ``entry`` is None, there is no request budget."""

    name: str | None = None
    entry: TargetEntry | None = None
    path: Path | None = None

    def key(self, key: str) -> str:
        """Format a key of the entry for messages: ``targets.toml: staging.max_share``."""
        return f"{self.path}: {self.name}.{key}"

    @property
    def assumed(self) -> AssumedLimits:
        """The documented limits, with the entry's changes."""
        entry = self.entry
        return AssumedLimits(DOCUMENTED) if entry is None else AssumedLimits(DOCUMENTED | entry.limits, entry.limiter)

    @property
    def tls(self) -> TlsInfo | None:
        """The entry's TLS files as absolute paths, or None if the entry has none."""
        entry = self.entry
        if entry is None or (entry.ca is None and entry.client_certificate is None):
            return None
        folder = (self.path or TARGETS_FILE).resolve().parent
        files = {"ca": entry.ca, "certificate": entry.client_certificate, "key": entry.client_key}
        return TlsInfo(**{key: str(folder / Path(file).expanduser()) for key, file in files.items() if file})

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.entry is None else dict(self.entry.headers)


@dataclass(frozen=True, slots=True)
class ChosenTarget(NamedEntry):
    """A target and its entry, if any. The entry's request budget applies even on loopback."""

    target: Target = field(kw_only=True)


class PreflightOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The target and the scenario that a preflight checks."""

    url: str
    listed: bool
    """Whether the target has an entry."""
    scenario: Mapping[str, Any]
    """The effective scenario as plain values."""
    tls: TlsInfo | None = None
    headers: dict[str, str] = {}


def choose(host: str | None, target: str | None, targets: Path | None = None) -> ChosenTarget:
    """Find the target by its URL, or by the name of its entry. The default file of entries is ``targets.toml``.

    A URL other than loopback needs an entry with the same scheme, host and port.

    Raises:
        InputError: if not exactly one of ``host`` and ``target`` is given, if the URL or the file cannot be used, or
            if there is no such entry.
    """
    if (host is None) == (target is None):
        raise InputError("give exactly one of --host and --target", "Add or remove an option.")
    if target is not None:
        return _resolved(named_entry(target, targets))
    found = resolve(host or "")
    if found.loopback:
        return ChosenTarget(target=found)
    if (named := entry_at(found.url, targets)).entry is None:
        path = targets or TARGETS_FILE
        raise InputError(
            f"{found.server_name!r} is not a loopback address, and no entry in {path} matches the scheme, host and "
            f"port of {found.url}",
            f"Add an entry to {path} after its owner has agreed (see docs/own-api.md), or omit --host to load the "
            "embedded target.",
        )
    return _resolved(named, found)


def entry_at(url: str, targets: Path | None = None) -> NamedEntry:
    """Find the entry of a URL's server. The host is not resolved. An entry with exactly this URL is preferred.

    The result has no entry if the host is loopback, or if no entry matches.

    Raises:
        InputError: if the URL or the file is invalid, or if several entries match.
    """
    here, path = server_of(url), targets or TARGETS_FILE
    if is_loopback(here[1]):
        return NamedEntry()
    entries = load_targets(path) if path.is_file() or targets is not None else {}
    same = {name: entry for name, entry in entries.items() if entry.server == here}
    exact = {name: entry for name, entry in same.items() if entry.url == url.rstrip("/")}
    matches = exact if len(exact) == 1 else same
    if len(matches) > 1:
        raise InputError(f"{path}: {url} is the server of {', '.join(matches)}", "Choose one with --target.")
    return next((NamedEntry(name, entry, path) for name, entry in matches.items()), NamedEntry())


def named_entry(name: str, targets: Path | None = None) -> NamedEntry:
    """Find an entry by its name in a file, by default ``targets.toml``. Its host is not resolved.

    Raises ``InputError`` if the file is missing or invalid, or has no such entry.
    """
    path = targets or TARGETS_FILE
    if targets is None and not path.is_file():
        raise InputError(
            f"--target {name}: there is no {path} here", "Create one (see docs/own-api.md), or use --targets FILE."
        )
    return NamedEntry(name, entry_named(path, name), path)


def _resolved(named: NamedEntry, found: Target | None = None) -> ChosenTarget:
    """Return the target of an entry. ``found`` replaces the entry's URL with another URL of the same server."""
    target = found or resolve("" if named.entry is None else named.entry.url)
    chosen = ChosenTarget(named.name, named.entry, named.path, target=target)
    if chosen.tls is not None:
        try:
            tls_context(chosen.tls)
        except InputError as error:
            raise InputError(f"{named.path}: {named.name}: {error.message}", error.remedy) from None
    return chosen


def confirm(chosen: ChosenTarget, *, yes: bool) -> None:
    """Ask the user to type the host name of a production target, unless ``yes`` is true.

    Raises ``InputError`` if another name was typed, or there is no terminal.
    """
    entry = chosen.entry
    if entry is None or entry.environment != "production" or yes:
        return
    remedy = "Type the host name at a terminal, or pass --yes (plain locust: LOADTEST_YES=1)."
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(
            f"{chosen.key('environment')} is production, but there is no terminal to confirm {entry.host!r}",
            remedy,
        )
    sys.stderr.write(f"{chosen.name} is production. Type its host name to load it: ")
    sys.stderr.flush()
    typed = sys.stdin.readline().strip()
    if typed.lower() != entry.host:
        raise InputError(f"{typed!r} is not {entry.host!r}: nothing was sent", remedy)


def look(
    chosen: ChosenTarget, scenario: Mapping[str, Any], environment: Mapping[str, str], *, preflight: bool
) -> Preflight:
    """Check whether a target can be loaded, and return the preflight's findings. Without a preflight, they are empty.

    Raises ``TargetError`` if the target does not accept connections, or a check of the preflight failed.
    """
    check_reachable(chosen.target)
    if not preflight:
        return Preflight()
    seen = make_preflight(chosen, scenario, environment)
    if (failure := seen.failure) is not None:
        raise TargetError(f"preflight of {chosen.target.url}, {failure.name}: {failure.words}", failure.remedy)
    return seen


def make_preflight(chosen: ChosenTarget, scenario: Mapping[str, Any], environment: Mapping[str, str]) -> Preflight:
    """Run a preflight in a separate process, so that this process does not import an HTTP client.

    Raises ``LoadtestError`` if the process failed, which is a bug.
    """
    url = chosen.target.url
    listed = chosen.entry is not None
    order = PreflightOrder(url=url, listed=listed, scenario=scenario, tls=chosen.tls, headers=chosen.headers)
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.preflight"],
        input=msgspec.json.encode(order),
        env=dict(environment),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise LoadtestError(f"the preflight failed: {done.stderr.decode(errors='replace').strip()}")
    return msgspec.json.decode(done.stdout, type=Preflight)
