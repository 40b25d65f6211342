"""Many assigned users without the hour it takes to assign them one by one."""

import asyncio
import time

from bench import place
from waportd.config import load
from waportd.model import Assignment, Desired, User
from waportd.ports import choose
from waportd.store import SqliteStore


def users(waportd: place.Waportd, count: int, running: int) -> None:
    """Fill the store of a daemon that has not started yet: that many users, ``running`` of them not stopped."""
    config = load(waportd.config_file)
    assigned: dict[int, User] = {}
    assignments = []
    for number in range(1, count + 1):
        user = User(str(number))
        choice = choose(user, config.ports, assigned, lambda _: None)  # type: ignore[arg-type]
        assigned[choice.port] = user
        desired = Desired.RUNNING if number <= running else Desired.STOPPED
        assignments.append(Assignment(user, choice.port, desired, created_at=time.time(), note=choice.note))

    async def fill() -> None:
        config.store.instances.mkdir(parents=True, exist_ok=True)
        store = await SqliteStore.open(config.store.database)
        await store.put(assignments)
        await store.close()

    asyncio.run(fill())


def until_reconciled(waportd: place.Waportd, count: int, sockets: int) -> None:
    """Return when the daemon has written all environment files and opened all ports."""
    folder = waportd.directory / "state/instances"
    place.until(lambda: sum(1 for _ in folder.glob("*.env")) >= count, "all environment files", patience=300)

    def opened() -> bool:
        listed = place.systemctl(
            "list-units", "--state=active", "--no-legend", "--plain", "whatsapp@*.socket"
        )
        return len(listed.splitlines()) >= sockets

    place.until(opened, "all sockets", patience=300)
