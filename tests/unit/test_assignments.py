"""What is kept of users: changed on disk first, then in the registry."""

import asyncio

from support import BASE

from waportd.assignments import Assignments
from waportd.host import SingleHost
from waportd.model import Assignment, Port, User
from waportd.registry import Registry
from waportd.runtime import Runtimes

ONE = User("1")


async def test_what_is_changed_at_the_same_time_is_all_kept(store, config):
    registry = Registry()
    store.rows[ONE] = Assignment(ONE, Port(BASE))
    assignments = Assignments(store, registry, Runtimes(), config, SingleHost(config.store.instances))
    await assignments.load()
    change = assignments.change
    await asyncio.gather(change(ONE, linked=True), change(ONE, autostart=False), change(ONE, note="x"))
    assert (store.rows[ONE].linked, store.rows[ONE].autostart, store.rows[ONE].note) == (True, False, "x")
    assert registry.get(ONE).assignment == store.rows[ONE]
