"""etcd as the engine, by its JSON gateway: Debian 12 has 3.4, Debian 13 has 3.5."""

from waportd.fleet.etcd.calls import LIMIT_S, STATE_LIMIT_S, TOMBSTONE_S, Etcd

__all__ = ["LIMIT_S", "STATE_LIMIT_S", "TOMBSTONE_S", "Etcd"]
