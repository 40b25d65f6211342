"""The hosts of the fleet as the keeper knows them: who is asked while the engine is away, and who may ask."""

from collections.abc import Iterable, Mapping

from waportd.fleet.engine import Host, HostState


class HostList:
    """The list as the engine had it last, and what other hosts have said since. A `peer_calls.Members`."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}

    def __call__(self) -> Mapping[str, Host]:
        """Return the hosts by name."""
        return self._hosts

    def replace(self, hosts: Iterable[Host]) -> None:
        """Take over the engine's list."""
        self._hosts = {host.name: host for host in hosts}

    def learn(self, addresses: Mapping[str, str]) -> None:
        """Add the hosts of another one's list that are not on this: they may have joined since."""
        for name, address in addresses.items():
            if name not in self._hosts:
                self._hosts[name] = Host(
                    name, address, HostState.ACTIVE, "", 0, 0.0, alive=True, incarnation=None
                )
