"""What ``import-session`` asks of the daemon."""

import asyncio
import types

from waportd.cli import adoption
from waportd.client import Client
from waportd.model import User


async def test_who_is_new_who_runs_and_who_was_stopped_are_stopped_for_an_import(api, supervisor, server):
    await supervisor.ensure(User("running"))
    await supervisor.ensure(User("stopped"))
    await supervisor.stop(User("stopped"))
    with Client(str(server.path)) as client:
        for user in ("new", "running", "stopped"):
            shown = await asyncio.to_thread(adoption._assign, types.SimpleNamespace(client=client), user)
            assert (shown.user, shown.desired, shown.process.state) == (user, "stopped", "stopped")
