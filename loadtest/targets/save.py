"""Write what a probe found into the entry of ``targets.toml``, and leave everything else in the file as it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import tomlkit

from loadtest.contract import LimitName
from loadtest.errors import InputError
from loadtest.limits import LimiterSpec
from loadtest.targets.choose import entry_named, load_targets
from loadtest.units import Limit

_DEFAULT: Final = LimiterSpec()


def save_limits(path: Path, name: str, limits: Mapping[LimitName, Limit], limiter: LimiterSpec | None) -> None:
    """Write assumed limits into an entry: comments and other keys stay.

    Args:
        path: of the file.
        name: of the entry.
        limits: those that are known; others of the entry stay.
        limiter: how they are counted; None to leave what the entry says.

    Raises:
        InputError: if the file cannot be used or written, or has no such entry; then it is as it was.
    """
    entry_named(path, name)
    before = path.read_text(encoding="utf-8")
    document = tomlkit.parse(before)
    entry = document[name]
    kept = dict(entry.get("limits", {}))
    kept.update({str(each): str(limit) for each, limit in limits.items()})
    table = tomlkit.inline_table()
    table.update(kept)
    entry["limits"] = table
    if limiter is not None:
        values = {
            "algorithm": limiter.algorithm,
            "burst": limiter.burst,
            "count_rejected": limiter.count_rejected or None,
            "limit_scope": None if limiter.scope == _DEFAULT.scope else limiter.scope,
        }
        for key, value in values.items():
            if value is None:
                entry.pop(key, None)
            else:
                entry[key] = value
    try:
        path.write_text(tomlkit.dumps(document), encoding="utf-8")
        load_targets(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    except InputError:
        path.write_text(before, encoding="utf-8")
        raise
