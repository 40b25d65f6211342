"""Whether the configuration's limits leave room for one more server."""

import psutil

from waportd.config import Config
from waportd.errors import TooManyRunning
from waportd.model import User
from waportd.observer import Observer
from waportd.readiness import awaits_turn
from waportd.registry import Registry
from waportd.runtime import Runtimes

_DOWN = {"inactive", "failed"}


class Admission:
    """Counts servers that run, and servers that were admitted but whose unit may not show it yet."""

    def __init__(self, config: Config, registry: Registry, runtimes: Runtimes, observer: Observer) -> None:
        self._config = config
        self._registry = registry
        self._runtimes = runtimes
        self._observer = observer

    def reconfigure(self, config: Config) -> None:
        """Take over a new configuration."""
        self._config = config

    def admit(self, user: User) -> None:
        """Raise TooManyRunning where the configuration's limits leave no room for this user's server."""
        limits = self._config.limits
        if limits.max_running:
            # Users who wait for a turn do not count: else each of many would count the others, and none would start.
            others = (instance for instance in self._registry if instance.assignment.user != user)
            running = sum(
                1
                for instance in others
                if self._runtimes[instance.assignment.user].is_admitted
                or (
                    self._observer.service(instance.assignment.port).active_state not in _DOWN
                    and self._observer.pacer.due(instance.assignment.port) is None
                    and not awaits_turn(instance)
                )
            )
            if running >= limits.max_running:
                raise TooManyRunning(
                    f"{running} servers run, which is as many as limits.max_running allows",
                    hint="stop users who are not needed, or raise limits.max_running",
                    limit="max_running",
                    retry_after=30,
                )
        available = psutil.virtual_memory().available
        if available < limits.min_available_memory:
            raise TooManyRunning(
                f"the host has {available >> 20} MiB of memory left, and limits.min_available_memory keeps "
                f"{limits.min_available_memory >> 20} MiB free",
                hint="stop users who are not needed, or add memory",
                limit="min_available_memory",
                retry_after=60,
            )
