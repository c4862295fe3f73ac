"""The file of a history: what damage to it gives, and that no write loses a line."""

import errno
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.history_parts import days, decision, made_line, made_run

from loadtest.compare import history_file
from loadtest.errors import ExitCode, InputError

NAME = "regression.jsonl"


def test_a_line_cut_off_anywhere_is_moved_away_and_nothing_else_is_lost(path: Path) -> None:
    """As a crash leaves it: at each byte. The reader says so; the next writer repairs it, and keeps what was cut."""
    whole = path.read_bytes()
    before = whole.splitlines(keepends=True)
    last = len(whole) - len(before[-1])
    damaged = path.with_name(NAME + history_file.DAMAGED)
    for size in range(last + 1, len(whole) - 1, 97):
        path.write_bytes(whole[:size])
        damaged.unlink(missing_ok=True)
        contents = history_file.read(path)
        assert len(contents.history.runs) == 2
        assert "the last line is truncated" in contents.warnings[0]
        assert path.read_bytes() == whole[:size], "a reader changes nothing"
        (message,) = history_file.append(path, made_line(7))
        assert str(damaged) in message
        assert damaged.read_bytes() == whole[last:size] + b"\n"
        assert path.read_bytes().startswith(b"".join(before[:2]))
        assert days([each.measurements for each in history_file.read(path).history.runs]) == [0, 1, 7]
    assert made_run(2).run in message, "long enough, it tells whose line it was"
    path.write_bytes(whole + bytes(4096))
    assert history_file.append(path, made_line(7)), "zeros that a power failure left"
    assert len(history_file.read(path).history.runs) == 4


@pytest.mark.parametrize("text", [b"\n", b"\r\n\r\n"])
def test_what_an_editor_does_is_no_damage(path: Path, text: bytes) -> None:
    """A last line without its newline, empty lines, other ends of lines."""
    path.write_bytes(path.read_bytes().rstrip(b"\n").replace(b"\n", text))
    assert len(history_file.read(path).history.runs) == 3
    assert history_file.append(path, made_line(3)) == []
    assert len(history_file.read(path).history.runs) == 4


def without_checksum(text: bytes) -> bytes:
    """Lines as a person may write them by hand."""
    return re.sub(rb',"crc":"[0-9a-f]{8}"}', b"}", text)


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda line: without_checksum(line).replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda line: line[: len(line) // 2], "line 2 is damaged"),
        (lambda line: line[:9] + b"\0\0\0" + line[12:], "line 2 is damaged"),
        (lambda line: b"\xff\xfe" + line, "line 2 is damaged"),
        (lambda line: line + line, "line 2 is damaged"),
        (lambda _: b"[1, 2]", "line 2 is damaged"),
        (lambda _: b"[" * 100_000, "line 2 is damaged"),
        (lambda _: b"<<<<<<< HEAD", "line 2 is a marker of an unresolved merge"),
        (lambda _: b"=======", "line 2 is a marker of an unresolved merge"),
        (_replaced(b'"verdict":"pass"', b'"verdict":"fine"'), "line 2 is damaged"),
        (_replaced(b'"line":"run"', b'"line":"walk"'), "line 2 is damaged"),
        (_replaced(b'"started":"2025', b'"started":"soon'), "line 2 is damaged"),
        (_replaced(b'"recorded":"2025', b'"recorded":"once'), "line 2 is damaged"),
        (_replaced(b'"response_time.p50"', b'"response_time.p7"'), "line 2 is damaged"),
        (_replaced(b'"schema":1', b'"schema":2'), "line 2 was written by a newer loadtest"),
        (_replaced(b'"run":{"schema":1', b'"run":{"schema":9'), "line 2 was written by a newer loadtest"),
        (_replaced(b'"schema":1', b'"schema":1,"more":true'), ""),
        (lambda line: line.replace(b'"schema":1', b'"schema":2'), "line 2 is damaged: its checksum does not match"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_written(path, damage, words):
    """File, number and remedy; a history with a hole gives no verdict, and no line is added to one."""
    lines = path.read_bytes().splitlines()
    lines[1] = damage(lines[1])
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    if not words:  # a key that this version does not know is none of its business
        assert len(history_file.read(path).history.runs) == 3
        return
    for use in (history_file.read, lambda path: history_file.append(path, made_line(9))):
        with pytest.raises(InputError) as raised:
            use(path)
        assert f"{path}, {words}" in str(raised.value)
        assert raised.value.remedy
        assert raised.value.exit_code == ExitCode.USAGE
    assert path.read_bytes() == before


@pytest.fixture(name="content", scope="module")
def two_runs_and_a_decision(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small file."""
    path = tmp_path_factory.mktemp("history") / NAME
    lines = [made_line(day, sd=0.1) for day in range(2)]
    history_file.append(path, *lines, decision(lines[0].run.run, 9, "rejected"))
    return path.read_bytes()


@given(data=st.data())
def test_a_flipped_bit_is_never_another_history(content: bytes, data: st.DataObject) -> None:
    """Anywhere in the file: an error, or the same runs, or a last line that is moved away and said."""
    flipped = bytearray(content)
    flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(content)
        before = history_file.read(path).history
        path.write_bytes(flipped)
        try:
            found = history_file.read(path)
        except InputError:
            return
        assert found.history == before or found.warnings


def test_a_line_written_by_hand_needs_no_checksum(path: Path) -> None:
    """One that was changed fits no more; without its checksum it is taken as it is."""
    changed = path.read_bytes().replace(b'"value":223.4', b'"value":923.4', 1)
    path.write_bytes(changed)
    with pytest.raises(InputError, match="line 1 is damaged: its checksum does not match"):
        history_file.read(path)
    path.write_bytes(without_checksum(changed))
    assert history_file.read(path).history.runs[0].measurements.measurements[0].value > 900


def test_a_full_disk_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines of one append are there, or none."""
    before, write, left = path.read_bytes(), os.write, [100]

    def full(file: int, data: bytes) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: left.pop()])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match="No space left on device"):
        history_file.append(path, made_line(3), made_line(4))
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A folder of that name, or one below a file: before a run is made."""
    (tmp_path / NAME).mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / NAME, tmp_path / "file" / NAME):
        with pytest.raises(InputError, match="cannot write"):
            history_file.check_writable(path)
    with pytest.raises(InputError, match="cannot read"):
        history_file.read(tmp_path / NAME)


WRITER = """
import sys
from pathlib import Path
import msgspec
from loadtest.compare import history_file
from loadtest.compare.history import RunLine
line = msgspec.json.decode(sys.stdin.buffer.read(), type=RunLine)
sys.stdout.write("ready\\n"); sys.stdout.flush()
for number in range(20):
    run = msgspec.structs.replace(line.run, run=f"{sys.argv[2]}-{number}")
    history_file.append(Path(sys.argv[1]), msgspec.structs.replace(line, run=run))
    history_file.read(Path(sys.argv[1]))
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three of them, each of which also reads: 60 whole lines, and no reader ever saw a part of one."""
    path = tmp_path / NAME
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in "abc"
    ]
    for writer in writers:
        writer.stdin.write(msgspec.json.encode(made_line(0)))
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    contents = history_file.read(path)
    assert contents.warnings == []
    assert {each.id for each in contents.history.runs} == {f"{name}-{n}" for name in "abc" for n in range(20)}
    assert len(path.read_bytes().splitlines()) == 60


def test_a_file_that_is_replaced_meanwhile_is_not_written_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `git pull` does it while a writer waits for the lock: the line goes into the new file."""
    waits, flock = threading.Event(), fcntl.flock

    def lock(file: int, how: int) -> None:
        waits.set()
        flock(file, how)

    with path.open("rb") as held:
        flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(fcntl, "flock", lock)
        writer = threading.Thread(target=history_file.append, args=(path, made_line(3)))
        writer.start()
        assert waits.wait(20)
        pulled = path.with_name("pulled")
        pulled.write_bytes(path.read_bytes())
        pulled.replace(path)
    writer.join(20)
    assert len(history_file.read(path).history.runs) == 4
