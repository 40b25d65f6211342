"""What sessions keep on disk, as their servers measure it."""

import pytest
from support import BASE, is_process, settled, until

from waportd.model import Port, ProcessState, Storage, User
from waportd.quotas import STORAGE_NOTES

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


def measured(login, cache=5):
    """Return what a server says of the sizes of its session."""
    return {"login": login, "cache": cache, "journal": 3, "measured_at": "2026-01-01T00:00:00.000Z"}


SIZES = Storage(7, 5, 3, 1767225600.0)


async def test_what_a_session_keeps_on_disk_is_known_of_a_sleeping_user_and_by_the_next_daemon(
    supervisor, start_supervisor, systemd, store
):
    await supervisor.ensure(ONE)
    assert supervisor.known(ONE).storage is None
    systemd.servers[PORT].say("ready", storage=measured(7))
    await until(supervisor, ONE, lambda now: now.storage == SIZES and now.assignment.storage == SIZES)
    await systemd.exit(PORT, 0)
    asleep = await until(supervisor, ONE, is_process(ProcessState.STOPPED))
    assert (asleep.session, asleep.storage) == (None, SIZES)
    await supervisor.close()
    assert (await start_supervisor()).known(ONE).storage == SIZES
    assert store.rows[ONE].storage == SIZES


@pytest.mark.parametrize("by", ["call", "phone"])
async def test_of_a_login_that_was_deleted_no_size_is_known(supervisor, systemd, store, by):
    await supervisor.ensure(ONE)
    systemd.servers[PORT].say("ready", linked=True, storage=measured(7))
    await until(supervisor, ONE, lambda now: now.assignment.storage == SIZES and now.assignment.linked)
    if by == "call":
        await supervisor.log_out(ONE)
    else:
        await systemd.exit(PORT, 10)
    await until(supervisor, ONE, lambda now: not now.assignment.linked and now.storage is None)
    assert store.rows[ONE].storage is None


async def test_a_server_that_measures_itself_all_the_time_keeps_the_disk_free(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    written = set()
    put = store.put

    async def note(assignments):
        written.update(assignment.storage for assignment in assignments)
        await put(assignments)

    store.put = note
    for login in range(STORAGE_NOTES[0] + 4):
        systemd.servers[PORT].say("ready", linked=True, storage=measured(login))
        await until(supervisor, ONE, lambda now, login=login: now.storage and now.storage.login == login)
        await settled(supervisor)
    assert len(written - {None}) == STORAGE_NOTES[0]
