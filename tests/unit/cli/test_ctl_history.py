"""``history``: a line for each figure, on 80 columns, and the document itself for scripts."""

import json

import pytest

from waportd.cli.exit_status import Exit
from waportd.cli.history import bars
from waportd.model import User


async def test_each_figure_has_a_line(api, supervisor, ctl):
    await supervisor.ensure(User("1"))
    for _ in range(2):
        await supervisor.history.sample()
    shown = (await ctl("history")).out
    lines = {line[:20].strip(): line[20:].split() for line in shown.splitlines()}
    assert lines["FIGURE"] == ["NOW", "LEAST", "MOST", "LAST", "6", "H"]
    assert lines["Linked"][:3] == ["0", "0", "0"]
    assert lines["Server memory"][:6] == ["64", "MiB", "64", "MiB", "64", "MiB"]
    assert lines["Server memory"][-1] == "█"
    assert "0 messages were delivered, 0 undelivered; 0 restarts of servers since" in shown


async def test_a_program_gets_the_document(api, supervisor, ctl):
    await supervisor.history.sample()
    document = json.loads((await ctl("history", "--hours", "24", "--json")).out)
    assert len(document["times"]) == len(document["delivered"]) == 1


async def test_before_the_first_sample_it_says_when_there_is_one(api, ctl):
    answer = await ctl("history")
    assert (answer.status, answer.out) == (
        Exit.OK,
        "There is no sample yet: waportd takes the first one some seconds after its start.\n",
    )


async def test_it_fits_a_terminal_of_80_columns(api, supervisor, terminal):
    for _ in range(3):
        await supervisor.history.sample()
    screen = await terminal("history", "--hours", "1", columns=80)
    assert await screen.end() == Exit.OK
    await screen.until("restarts of servers since")
    lines = screen.text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in screen.text
    assert "LAST HOUR" in lines[0]


async def test_a_terminal_without_blocks_gets_the_figures(api, supervisor, terminal):
    for _ in range(2):
        await supervisor.history.sample()
    screen = await terminal(
        "history", LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii"
    )
    assert await screen.end() == Exit.OK
    await screen.until("since")
    assert "LAST" not in screen.text
    assert "Restarts a minute" in screen.text


@pytest.mark.parametrize("hours", ["0", "25", "six"])
async def test_hours_that_are_not_kept_are_refused(ctl, capfd, hours):
    with pytest.raises(SystemExit) as end:
        await ctl("history", "--hours", hours)
    assert end.value.code == Exit.USAGE
    assert "from 1 to 24" in capfd.readouterr().err


def test_bars_begin_at_zero_and_leave_out_what_is_unknown():
    assert bars([0.0] * 24, 24) == "▁" * 24
    assert bars([*[None] * 20, 0.0, 5.0, None, 10.0], 24) == " " * 20 + "▁▅ █"
    # A daemon that is younger than what is asked for has the right end only.
    assert bars([1.0], 24) == " " * 23 + "█"
    # Each is the average of its time.
    assert bars([8.0, 0.0] * 24, 48) == "▅" * 24
