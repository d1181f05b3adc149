"""What a person at a terminal sees, and what ^C does."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence

import pytest

from tests.fixtures.cli import Ended, Workspace, check_manners

SLOW_REVISION = """\
import time

from alembic import context, op
from pathlib import Path

revision = "0003"
down_revision = "0002"


def upgrade():
    op.execute("create table half_done (id integer)")
    if "asia" in str(op.get_bind().engine.url):
        return
    Path("started").touch()
    op.execute("with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n")
"""


def at_terminal(
    workspace: Workspace,
    *arguments: str,
    answer: str = "",
    columns: int = 100,
    steps: Sequence[tuple[str, str | Callable[[], object]]] = (),
) -> tuple[str, int]:
    """Run the command line on a terminal of its own; return what it shows, without its colors, and the exit code.

    Args:
        workspace: Where.
        arguments: Of the command line.
        answer: What is typed at the question.
        columns: The terminal's width.
        steps: What has to be shown next, as a regular expression, and what is typed then, or called. What a prompt is
            to read has to be typed after it is shown: until then the terminal is not the prompt's.
    """
    waiting = [*steps, (r"\[y/N\]", answer)] if answer else list(steps)
    seen = 0
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = workspace.start(
        *arguments,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that ^C reaches the process
    )
    os.close(follower)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                shown += os.read(leader, 65536)
            except OSError:  # how Linux says that nobody is at the other end any more
                break
        if waiting and re.search(waiting[0][0].encode(), shown[seen:], re.DOTALL):
            seen = len(shown)
            then = waiting.pop(0)[1]
            if isinstance(then, str):
                os.write(leader, then.encode())
            else:
                then()
    os.close(leader)
    code = process.wait(timeout=10)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")
    check_manners(Ended(text, "", code))
    return text, code


def test_the_question_is_asked_and_yes_is_taken(weather: Workspace) -> None:
    text, code = at_terminal(weather, "init", answer="y\n")
    assert code == 0
    assert "asia: file, 2 revisions" in text
    assert text.count("create what is missing? [y/N]") == 1
    assert (weather.folder / "asia.db").exists()


@pytest.mark.parametrize("answer", ["n\n", "\n", "maybe\n", "\x04"])
def test_everything_else_is_no(weather: Workspace, answer: str) -> None:
    text, code = at_terminal(weather, "init", answer=answer)
    assert code == 5
    assert "error: declined: nothing was changed" in text
    assert not (weather.folder / "asia.db").exists()


def test_interrupting_the_question_changes_nothing(weather: Workspace) -> None:
    text, code = at_terminal(weather, "init", answer="\x03")
    assert code == 130
    assert "interrupted" in text
    assert not (weather.folder / "asia.db").exists()


def test_with_yes_no_question_is_asked(weather: Workspace) -> None:
    text, code = at_terminal(weather, "init", "--yes")
    assert code == 0
    assert "[y/N]" not in text


def test_a_table_is_cut_to_the_terminal_and_never_in_a_pipe(filled: Workspace) -> None:
    text, code = at_terminal(filled, "locate", "WeatherLocation", "1", columns=60)
    table = [line for line in text.splitlines() if "WeatherLoc" in line or "─" in line]
    assert code == 0
    assert table
    assert all(len(line) <= 60 for line in table)
    assert "…" in text
    piped = filled.shardctl("locate WeatherLocation 1").stdout
    assert "…" not in piped
    assert max(map(len, piped.splitlines())) > 100


def test_the_prompt_answers_completes_and_survives_errors(filled: Workspace) -> None:
    text, code = at_terminal(
        filled,
        "query",
        steps=[
            ("shardctl>", "SELECT count(*) AS cities FROM WeatherLoc\t"),
            ("ation", ";\r"),
            ("row from 4 shards.*shardctl>", "SELECT nonsense;\r"),
            ("error: ", "\\d\r"),
            ("weather_reports", "\\q\r"),
        ],
    )

    assert code == 0
    assert "1 row from 4 shards" in text
    assert "error: " in text
    assert re.search(r"weather_locations +\d+ +\d+ +\d+ +\d+ +\d+", text)


@pytest.mark.slow
def test_the_prompt_takes_several_lines_and_commands(filled: Workspace) -> None:
    map_file = filled.folder / "shardctl.toml"
    map_file.write_text('queries = { cities = "SELECT city FROM weather_locations" }\n' + map_file.read_text())
    text, code = at_terminal(
        filled,
        "query",
        steps=[
            ("shardctl>", "\\?\r"),
            ("named query.*shardctl>", "SELECT max(temperature)\r"),
            ("->", "AS hottest FROM Report;\r"),
            ("row from 4 shards.*shardctl>", "\\explain SELECT count(*) FROM Report\r"),
            ("merged here.*shardctl>", "\\shard asia europe\r"),
            ("asking asia, europe.*shardctl>", "@cities\r"),
            ("rows from 2 shards.*shardctl>", "\\d WeatherLocation\r"),
            (r"VARCHAR\(32\).*shardctl>", "\x04"),
        ],
    )

    assert code == 0
    assert "83.0" in text
    assert "3 rows from 2 shards" in text
    assert "nullable" in text
    assert "SELECT max(temperature)" in (filled.folder / ".local/state/shardctl/history").read_text()


@pytest.mark.slow
def test_a_long_result_goes_through_the_pager(filled: Workspace) -> None:
    filled.environ["PAGER"] = "head -n 3; echo the pager was here"
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99) SELECT i FROM n;"
    steps = [("shardctl>", "\\shard asia\r"), ("asking.*shardctl>", rows + "\r"), ("was here.*shardctl>", "\\q\r")]
    text, code = at_terminal(filled, "query", steps=steps)
    assert code == 0
    assert "99 rows" in text
    assert "77" not in text


def test_errors_read_the_same_on_a_terminal(weather: Workspace) -> None:
    text, code = at_terminal(weather, "shards", "--shard", "asai")
    assert code == 2
    assert "error: no shard named `asai` in shardctl.toml\n\nhint: did you mean `asia`?" in text


def interrupt(process: subprocess.Popen[bytes], workspace: Workspace, *, when: str) -> Ended:
    deadline = time.monotonic() + 30
    while not (workspace.folder / when).exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # the statement has to be on its way
    process.send_signal(signal.SIGINT)
    try:
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    ended = Ended(stdout.decode(), stderr.decode(), process.returncode)
    check_manners(ended)
    return ended


def test_interrupting_a_migration_says_what_is_done(filled: Workspace) -> None:
    filled.write("migrations/versions/0003.py", SLOW_REVISION)
    arguments = ("migrate", "--yes", "--shard", "asia", "--shard", "europe")
    process = filled.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    ended = interrupt(process, filled, when="started")
    assert ended.code == 130
    assert re.search(r"^asia +0002 +0003 +\d+\.\d+ +upgraded$", ended.stdout, re.MULTILINE)
    assert re.search(r"^europe +0002 +0002 +\d+\.\d+ +rolled back$", ended.stdout, re.MULTILINE)
    assert "error: interrupted while migrating: 1 of 2 shards are done" in ended.stderr
    assert "done: asia" in ended.stderr
    assert "rolled back: europe" in ended.stderr
    assert "hint: run the same command again" in ended.stderr
    again = filled.shardctl("shards --shard asia --shard europe --format csv").stdout
    assert [line.split(",")[5] for line in again.splitlines()[1:]] == ["0003", "0002"]


NAP_REVISION = """\
\"\"\"Rest a little.\"\"\"
import time

revision = "0003"
down_revision = "0002"


def upgrade():
    time.sleep(0.7)


def downgrade():
    pass
"""


def test_shards_at_work_are_shown_with_their_revision(filled: Workspace) -> None:
    filled.write("migrations/versions/0003.py", NAP_REVISION)
    text, code = at_terminal(filled, "migrate", "--all-shards", answer="y\n")
    assert code == 0
    assert "north_america, asia, europe, south_america: 0002 -> 0003 (1 revision: Rest a little.)" in text
    for name in ("north_america", "asia", "europe", "south_america"):
        assert re.search(rf"  {name} +0:00:0\d 0003 \(1 of 1\)", text)
    assert re.search(r"wave 1 .*0/4 .*left:", text)
    assert text.count("upgraded") == 4


@pytest.mark.slow
def test_a_downgrade_asks_for_the_name_of_the_shard(filled: Workspace) -> None:
    arguments = ("migrate", "downgrade", "-1", "--shard", "asia")
    for answer in ("y\n", "europe\n", "\n"):
        text, code = at_terminal(filled, *arguments, steps=[("to go on:", answer)])
        assert (code, "error: declined: nothing was changed" in text) == (5, True)
    text, code = at_terminal(filled, *arguments, steps=[("type the shard's name to go on:", "asia\n")])
    assert code == 0
    assert re.search(r"asia +0002 +0001 .*downgraded", text)


def test_a_downgrade_of_several_shards_asks_for_their_number(filled: Workspace) -> None:
    arguments = ("migrate", "downgrade", "base", "--all-shards", "--exclude", "asia")
    text, code = at_terminal(filled, *arguments, steps=[("type the number of shards to go on:", "3\n")])
    assert code == 0
    assert text.count("downgraded") == 3


def test_each_wave_is_confirmed(filled: Workspace) -> None:
    filled.write("migrations/versions/0003.py", NAP_REVISION.replace("0.7", "0"))
    text, code = at_terminal(
        filled,
        *("migrate", "--all-shards", "--canary", "asia", "--wave-size", "2", "--confirm-each-wave"),
        steps=[
            (r"run these migrations\? \[y/N\]", "y\n"),
            (r"go on with wave 2: north_america, europe\? \[y/N\]", "y\n"),
            (r"go on with wave 3: south_america\? \[y/N\]", "n\n"),
        ],
    )
    assert code == 5
    assert "error: declined: migrated 3 of 4 shards to 0003; wave 3 not started" in text
    assert re.search(r"1 +asia .*upgraded", text)
    assert re.search(r"3 +south_america .*not started", text)


def test_the_end_of_input_declines_a_wave_on_a_line_of_its_own(filled: Workspace) -> None:
    filled.write("migrations/versions/0003.py", NAP_REVISION.replace("0.7", "0"))
    text, code = at_terminal(
        filled,
        *("migrate", "--all-shards", "--yes", "--canary", "asia", "--confirm-each-wave"),
        steps=[(r"go on with wave 2: north_america, europe, south_america\? \[y/N\]", "\x04")],
    )
    assert code == 5
    assert re.search(r"\? \[y/N\] \nwave +shard", text)
    assert "hint: run the same command again; shards that are done are skipped" in text


def test_a_pause_between_waves_is_shown(filled: Workspace) -> None:
    filled.write("migrations/versions/0003.py", NAP_REVISION.replace("0.7", "0"))
    arguments = ("migrate", "--yes", "--shard", "asia", "--shard", "europe", "--wave-size", "1", "--pause", "2")
    text, code = at_terminal(filled, *arguments)
    assert code == 0
    assert re.search(r"wave 2 starts in 2 s, of which passed: 0:00:0[12]", text)


def test_a_terminal_that_cannot_redraw_shows_a_line_for_each_shard(filled: Workspace) -> None:
    filled.write("migrations/versions/0003.py", NAP_REVISION.replace("0.7", "0"))
    filled.environ["TERM"] = "dumb"
    arguments = ("migrate", "--yes", "--shard", "asia", "--shard", "europe", "--wave-size", "1", "--pause", "0.1")
    text, code = at_terminal(filled, *arguments)
    assert code == 0
    assert re.match(
        r"wave 1: asia\nasia: upgraded .* s\nwave 2 starts in 0.1 s\nwave 2: europe\neurope: upgraded .* s\nwave ",
        text,
    )


def test_interrupting_a_query(filled: Workspace) -> None:
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
    arguments = ("query", "--shard", "asia", endless)
    process = filled.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    time.sleep(2.5)
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    check_manners(Ended(stdout.decode(), stderr.decode(), process.returncode))
    # On a busy machine it may still be starting, and ends by the signal itself: a shell says 130 of both.
    assert process.returncode in {130, -signal.SIGINT}, stderr.decode()
    assert b"interrupted" in stderr


def test_a_reader_that_leaves_while_data_comes(filled: Workspace) -> None:
    process = filled.start("shards", "--format", "json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 0


def test_watching_says_how_old_each_state_is_and_ends_at_control_c(filled: Workspace) -> None:
    asia, away = filled.folder / "asia.db", filled.folder / "away.db"
    text, code = at_terminal(
        filled,
        *("status", "--watch", "0.3"),
        columns=80,
        steps=[
            (r"4 shards · head 0002 · no problems.*asia +\d+ s +active", lambda: asia.rename(away)),
            (r"asia +\d+ s +unreachable .*last answer \d+ s ago", lambda: away.rename(asia)),
            (r"no problems.*asia +\d+ s +active", "\x03"),
        ],
    )
    assert code == 0
    assert "interrupted" not in text
    assert "1 problem: asia unreachable" in text
    assert "asia: there is no file" in text
    unreachable = [line for line in text.splitlines() if re.match(r"asia +\d+ s +unreachable", line)]
    assert unreachable
    assert not [line for line in unreachable if "0002" in line]


@pytest.mark.slow
def test_watching_a_shard_that_hangs_shows_how_long(filled: Workspace) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        map_file = filled.folder / "shardctl.toml"
        url = f"postgresql://app@127.0.0.1:{server.getsockname()[1]}/shop"
        entry = f'timeout_s = 3\n[shards.mute]\nurl = "{url}"\n'
        map_file.write_text(entry + map_file.read_text().replace("models =", "#").replace("migrations =", "#"))
        steps = [
            (r"mute +active [^\n]*asking", ""),
            (r"mute +\d+ s +un[a-z]+ .*never answered", ""),
            (r"asia +[2-9] s +active", "\x03"),
        ]
        _, code = at_terminal(filled, "status", "--watch", "0.1", steps=steps)
    assert code == 0


@pytest.mark.parametrize("arguments", [("--watch",), ("--watch", "5"), ("--watch", "5", "--format", "json")])
def test_watching_needs_a_terminal(filled: Workspace, arguments: tuple[str, ...]) -> None:
    ended = filled.shardctl(f"status {' '.join(arguments)}")
    assert (ended.code, ended.stdout) == (2, "")
    assert "error: `--watch` draws on a terminal" in ended.stderr


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_the_screen_fits_the_terminal(filled: Workspace, columns: int) -> None:
    text, code = at_terminal(filled, "status", columns=columns)
    lines = [line for line in text.splitlines() if re.match("shard |north_america |─", line)]
    assert code == 0
    assert len(lines) == 3
    assert all(len(line) <= columns for line in lines)
    assert all("…" not in line and "..." not in line for line in lines)
    assert [name for name in ("state", "revision") if name not in lines[0]] == []
    assert ("engine" in lines[0]) == (columns == 140)
