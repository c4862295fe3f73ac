"""targets.toml: read strictly, and which entry is meant."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import InputError
from loadtest.targets import choose, load_targets
from loadtest.targets.entry import parse_hours

ENTRY = '[staging]\nurl = "http://127.0.0.1:8000"\nenvironment = "staging"\nowner = "me"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "targets.toml"
    path.write_text(text)
    return path


def test_a_name_that_no_file_has_is_refused(tmp_path: Path) -> None:
    """As a file that is missing."""
    path = write(tmp_path, ENTRY.replace("http:", "https:") + 'ca = "a\\u0000"\n')
    with pytest.raises(InputError, match=r"staging: ca: .* holds no certificates"):
        choose(None, "staging", path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("max_oprations = 3", "staging.max_oprations: unknown key; did you mean 'max_operations'?"),
        ("max_requests = 0", "staging.max_requests: 0 is not a whole number of at least 1"),
        ("max_requests = '9'", "staging.max_requests: '9' is not a whole number of at least 1"),
        ("max_share = '200%'", "staging.max_share: '200%' is not a share"),
        ("max_share = 0", "staging.max_share: must be above zero. Write a share such as 0.1"),
        ("limits = { sync = '1/s' }", "staging.limits.sync: 'sync' is not valid here; did you mean 'sync_run'?"),
        ("limits = { sync_run = 'many' }", "staging.limits.sync_run: 'many' is not a limit"),
        ("max_cost = 5", "staging: max_cost needs price_per_execution"),
        ("price_per_execution = nan", "staging.price_per_execution"),
        ("allowed_hours = '8-18'", "staging.allowed_hours: '8-18' are not hours: write '08:00-18:00'"),
        ("allowed_hours = '08:00-08:00'", "omit allowed_hours to allow all"),
        ("allowed_hours = '08:00-18:00 Mars/Base'", "'Mars/Base' is not a time zone"),
        ("expires = '2030-01-01'", "staging.expires: '2030-01-01' is not a date, such as 2030-12-31"),
        ("endpoint = 'a b'", "staging.endpoint: 'a b' cannot be sent in a header"),
        ("headers = { Host = 'x' }", "staging.headers: host is sent by the client itself"),
        ("headers = { 'x y' = 'z' }", "staging.headers: 'x y' is not a header name"),
        ("headers = { x = 'y', X = 'z' }", "staging.headers: 'X' is not a header name, or is duplicated"),
        ('headers = { x = "a\\r\\nb: c" }', "cannot be sent in a header"),
        ("headers = { x = '$9' }", "staging.headers: '$9' is not the name of a variable: write it as $NAME"),
        ("headers = { Authorization = 'Bearer x' }", "authorization may be a secret: write $NAME"),
        ("ca = 'ca.pem'", "staging: ca needs https, but the url is http://127.0.0.1:8000"),
        ("client_key = 'k.pem'", "staging: client_key needs https"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_the_nearest_valid_one(tmp_path: Path, line: str, says: str) -> None:
    """Whoever wrote it knows what to change."""
    path = write(tmp_path, ENTRY + line + "\n")
    with pytest.raises(InputError) as refused:
        load_targets(path)
    assert f"{path}: " in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://x", "is not a base URL"),
        ("http://user:secret@x", "contains a user name or password"),
        ("http://x/?q", "is not a base URL"),
    ],
)
def test_a_url_is_checked_where_it_is_written(tmp_path: Path, url: str, says: str) -> None:
    """And a password in it is not shown again."""
    path = write(tmp_path, ENTRY.replace("http://127.0.0.1:8000", url))
    with pytest.raises(InputError, match=says) as refused:
        load_targets(path)
    assert "secret" not in str(refused.value)


def test_environment_is_one_of_four(tmp_path: Path) -> None:
    """'prod' would slip past the question that production asks."""
    path = write(tmp_path, ENTRY.replace('"staging"\nowner', '"prod"\nowner'))
    with pytest.raises(InputError, match="'prod' is not valid here; known here: development, test, staging, prod"):
        load_targets(path)


@given(
    st.dictionaries(
        st.sampled_from(["url", "environment", "owner", "limits", "max_share", "allowed_hours", "expires", "max_cost"]),
        st.sampled_from(
            ["1", "-1", "1e400", "nan", "true", "''", "'08:00-18:00 ..'", "'99:99-00:00'", "2026-02-30", "9999-12-31",
             "{ sync_run = 3 }", "[1]", "'http://[::1'", "'99999999999999999999/1s'", "1979-05-27T07:32:00Z"]
        ),
    )
)  # fmt: skip
def test_any_file_is_read_or_refused_in_a_sentence(tmp_path_factory: pytest.TempPathFactory, keys: dict) -> None:
    """No value ends in a traceback."""
    path = write(tmp_path_factory.mktemp("t"), "[a]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()))
    with contextlib.suppress(InputError):
        load_targets(path)


@pytest.mark.parametrize(
    ("hours", "now", "left"),
    [
        ("08:00-18:00", "2026-03-02T07:59:59+00:00", None),
        ("08:00-18:00", "2026-03-02T08:00:00+00:00", 36000.0),
        ("08:00-18:00", "2026-03-02T18:00:00+00:00", None),
        ("22:00-06:00", "2026-03-02T23:00:00+00:00", 7 * 3600.0),
        ("22:00-06:00", "2026-03-02T05:59:00+00:00", 60.0),
        ("22:00-06:00", "2026-03-02T12:00:00+00:00", None),
        ("00:00-24:00 +02:00", "2026-03-02T12:00:00+00:00", "refused"),
        ("20:00-24:00", "2026-03-02T23:00:00+00:00", 3600.0),
        ("08:00-18:00 +02:00", "2026-03-02T06:00:00+00:00", 36000.0),
        ("08:00-18:00 Europe/Berlin", "2026-07-01T06:00:00+00:00", 36000.0),
        # In the night in which clocks go forward, seven hours on the clock are six.
        ("23:00-06:00 Europe/Berlin", "2026-03-28T22:00:00+00:00", 6 * 3600.0),
    ],
)
def test_allowed_hours_say_how_long_they_last(hours: str, now: str, left: object) -> None:
    """On the clock of their zone, over midnight too."""
    if left == "refused":
        with pytest.raises(ValueError, match="omit allowed_hours"):
            parse_hours(hours)
        return
    assert parse_hours(hours).seconds_left(datetime.fromisoformat(now)) == left


def test_a_host_that_is_not_loopback_needs_an_entry_with_its_scheme_host_and_port(tmp_path: Path) -> None:
    """An address of documentation (RFC 5737) stands for anybody's."""
    path = write(
        tmp_path,
        ENTRY.replace("http://127.0.0.1:8000", "http://192.0.2.1:8000")
        + '[other]\nurl = "http://192.0.2.1:8000/v0"\nenvironment = "test"\nowner = "me"\n'
        + '[named]\nurl = "https://LOCALHOST/"\nenvironment = "test"\nowner = "me"\n',
    )
    for url in ("http://192.0.2.1", "https://192.0.2.1:8000", "http://192.0.2.2:8000", "http://0.0.0.0:8000"):
        with pytest.raises(InputError, match="is not a loopback address, and no entry in"):
            choose(url, None, path)
    assert choose("http://192.0.2.1:8000/", None, path).name == "staging"
    assert choose("http://192.0.2.1:8000/v0", None, path).name == "other"
    with pytest.raises(InputError, match="is the server of staging, other"):
        choose("http://192.0.2.1:8000/v1", None, path)
    assert choose(None, "named", path).entry.server == ("https", "localhost", 443)
    assert choose("https://localhost", None, path).entry is None, "loopback by --host is free"
    with pytest.raises(InputError, match="there is no target 'stagin'; did you mean 'staging'"):
        choose(None, "stagin", path)


def test_without_a_file_nothing_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by URL nor by name."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is not a loopback address"):
        choose("http://192.0.2.1", None)
    with pytest.raises(InputError, match=r"--target staging: there is no targets\.toml here"):
        choose(None, "staging")
    with pytest.raises(InputError, match="cannot read nowhere"):
        choose("http://192.0.2.1", None, Path("nowhere.toml"))


def test_expires_is_the_last_day(tmp_path: Path) -> None:
    """Until its end in UTC."""
    entry = load_targets(write(tmp_path, ENTRY + "expires = 2026-03-01\n"))["staging"]
    assert entry.expiry == datetime(2026, 3, 2, tzinfo=UTC)
