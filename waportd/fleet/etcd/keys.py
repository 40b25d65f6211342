"""Where etcd keeps what, and how it is written there: keys, values, and the parts of a transaction.

    epoch                 the id of the epoch that is settled
    confirmed/<host>      the id of the epoch in which the host has put back what it holds
    hosts/<host>          address, state, version, capacity, joined_at, held
    leases/<host>         attached to the host's etcd lease: gone when that is; its revision is the incarnation
    users/<user>          the row
    ports/<port>          the user: makes a port unique
    deleted/<user>        the tombstone, attached to an etcd lease of a week
    orders/<user>         where the user is to be, attached to an etcd lease of an hour at most
    facts/<name>          what all hosts have in common beside the users

A value is a JSON object. Its ``change`` is random, and names the call that wrote it: a call that was repeated on another
endpoint knows by it that the first try did happen.
"""

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from waportd.fleet.engine import (
    EngineUnavailable,
    EpochChanged,
    Event,
    Fact,
    FactChanged,
    Host,
    HostChanged,
    HostState,
    LeaseChanged,
    Order,
    OrderChanged,
    Row,
    RowChanged,
    TombstoneChanged,
)

EPOCH = "epoch"
CHANGE = "change"

Part = Mapping[str, Any]
"""A condition or a change of a transaction, or a range, as etcd's gateway takes it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A key with its value."""

    key: str
    """Without the prefix."""
    value: Mapping[str, Any]
    revision: int
    """That of its last change."""
    lease: int = 0
    """The id of the etcd lease with which it ends; 0 for none."""

    @property
    def name(self) -> str:
        """What the key is about: a host, a user, a port."""
        return self.key.partition("/")[2]


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """Keys below a prefix."""

    prefix: str

    def read(self, entry: Mapping[str, Any]) -> Stored:
        """Return what the gateway gives as ``kv``. Raises EngineUnavailable where waportd has not written it."""
        key = _decode(entry["key"]).decode().removeprefix(f"{self.prefix}/")
        try:
            value = json.loads(_decode(entry.get("value", "")) or b"{}")
        except (ValueError, RecursionError) as error:
            raise unreadable(key) from error
        if not isinstance(value, dict):
            raise unreadable(key)
        return Stored(key, value, int(entry["mod_revision"]), int(entry.get("lease", 0)))

    def absent(self, key: str) -> Part:
        """Return the condition that a key does not exist."""
        return self._compare(key, "CREATE", create_revision="0")

    def exists(self, key: str) -> Part:
        """Return the condition that a key exists."""
        return {**self._compare(key, "CREATE", create_revision="0"), "result": "GREATER"}

    def unchanged(self, key: str, revision: int) -> Part:
        """Return the condition that a key has not changed since a revision; 0 where it did not exist."""
        return self._compare(key, "MOD", mod_revision=str(revision))

    def none_since(self, key: str, revision: int) -> Part:
        """Return the condition that none of the keys which begin with that was written after a revision."""
        return {**self.below(key), "target": "MOD", "result": "LESS", "mod_revision": str(revision + 1)}

    def holds(self, key: str, value: Mapping[str, Any]) -> Part:
        """Return the condition that a key has exactly that value."""
        return self._compare(key, "VALUE", value=_encode(_json(value)))

    def _compare(self, key: str, target: str, **operand: str) -> Part:
        return {"key": self.encode(key), "target": target, "result": "EQUAL", **operand}

    def put(self, key: str, value: Mapping[str, Any], lease: int = 0) -> Part:
        """Return the change that writes a key; it goes when the etcd lease ends, unless that is 0."""
        return {"request_put": {"key": self.encode(key), "value": _encode(_json(value)), "lease": str(lease)}}

    def delete(self, key: str) -> Part:
        """Return the change that deletes a key."""
        return {"request_delete_range": {"key": self.encode(key)}}

    def delete_below(self, key: str) -> Part:
        """Return the change that deletes all keys which begin with that."""
        return {"request_delete_range": self.below(key)}

    def below(self, key: str = "", after: str = "") -> dict[str, Any]:
        """Return the range of all keys which begin with ``key``, or of those of them after another one."""
        first = self.encode(f"{after}\0" if after else key)
        path = f"{self.prefix}/{key}".encode()
        return {"key": first, "range_end": _encode(path[:-1] + bytes([path[-1] + 1]))}

    def encode(self, key: str) -> str:
        """Return a key as the gateway takes it."""
        return _encode(f"{self.prefix}/{key}".encode())


def user_key(user: str) -> str:
    """Return the key of a user's row."""
    return f"users/{user}"


def deleted_key(user: str) -> str:
    """Return the key of a user's tombstone."""
    return f"deleted/{user}"


def port_key(port: int) -> str:
    """Return the key that makes a port unique."""
    return f"ports/{port}"


def order_key(user: str) -> str:
    """Return the key of what was ordered for a user."""
    return f"orders/{user}"


def fact_key(name: str) -> str:
    """Return the key of a fact."""
    return f"facts/{name}"


def lease_key(host: str) -> str:
    """Return the key of a host's lease."""
    return f"leases/{host}"


def host_key(host: str) -> str:
    """Return the key of what is known of a host."""
    return f"hosts/{host}"


def confirmed_key(host: str) -> str:
    """Return the key by which a host says that it has put back what it holds."""
    return f"confirmed/{host}"


def row_value(row: Row, change: str, *, above: int | None = None) -> dict[str, Any]:
    """Return what is written of a row: with its token, or with one that is new, and ``above`` another.

    A new token is the revision at which this is written, which nobody knows before. Revisions go back where a backup
    was restored, tokens never do.
    """
    token = {"token": row.token} if above is None else {"above": above}
    return {
        "port": row.port,
        "host": row.host,
        **token,
        "runs": row.runs,
        "snapshot": row.snapshot,
        "copies": list(row.copies),
        "document": row.document,
        CHANGE: change,
    }


def row_of(stored: Stored) -> Row:
    """Return the row that a key holds. Raises EngineUnavailable where it holds none."""
    value = stored.value
    try:
        token = value["token"] if "token" in value else max(stored.revision, value["above"] + 1)
        return Row(
            user=stored.name,
            port=int(value["port"]),
            host=str(value["host"]),
            token=int(token),
            runs=int(value["runs"]),
            document=value["document"],
            revision=stored.revision,
            snapshot=value["snapshot"],
            copies=tuple(value["copies"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(stored.key) from error


def host_value(host: Host, change: str) -> dict[str, Any]:
    """Return what is written of a host."""
    return {
        "address": host.address,
        "state": host.state,
        "version": host.version,
        "capacity": host.capacity,
        "joined_at": host.joined_at,
        "held": host.held,
        CHANGE: change,
    }


def host_of(stored: Stored, incarnation: int | None = None) -> Host:
    """Return the host that a key holds. Raises EngineUnavailable where it holds none."""
    value = stored.value
    try:
        return Host(
            name=stored.name,
            address=str(value["address"]),
            state=HostState(value["state"]),
            version=str(value["version"]),
            capacity=int(value["capacity"]),
            joined_at=float(value["joined_at"]),
            alive=incarnation is not None,
            incarnation=incarnation,
            revision=stored.revision,
            held=tuple(map(int, value.get("held", ()))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(stored.key) from error


def order_value(order: Order, change: str) -> dict[str, Any]:
    """Return what is written of an order."""
    return {"host": order.host, "token": order.token, "failed": order.failed, CHANGE: change}


def order_of(stored: Stored) -> Order:
    """Return the order that a key holds. Raises EngineUnavailable where it holds none."""
    value = stored.value
    try:
        failed = None if value["failed"] is None else str(value["failed"])
        return Order(stored.name, str(value["host"]), int(value["token"]), failed, stored.revision)
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(stored.key) from error


def fact_value(fact: Fact, change: str) -> dict[str, Any]:
    """Return what is written of a fact."""
    return {"fact": fact.value, CHANGE: change}


def fact_of(stored: Stored) -> Fact:
    """Return the fact that a key holds. Raises EngineUnavailable where it holds none."""
    value = stored.value.get("fact")
    if not isinstance(value, dict):
        raise unreadable(stored.key)
    return Fact(stored.name, value, stored.revision)


def token_of(stored: Stored) -> int:
    """Return the token of a tombstone. Raises EngineUnavailable where a key holds none."""
    try:
        return int(stored.value["token"])
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(stored.key) from error


def event_of(stored: Stored, epoch: str, *, deleted: bool) -> Event | None:
    """Return what the change of a key means in an epoch; None where it means nothing to who watches."""
    kind, name = stored.key.partition("/")[0], stored.name
    event: Event | None = None
    match kind:
        case "hosts":
            event = HostChanged(stored.revision, name, None if deleted else host_of(stored))
        case "leases":
            event = LeaseChanged(stored.revision, name, None if deleted else stored.revision)
        case "users":
            event = RowChanged(stored.revision, name, None if deleted else row_of(stored))
        case "deleted":
            event = TombstoneChanged(stored.revision, name, None if deleted else token_of(stored))
        case "orders":
            event = OrderChanged(stored.revision, name, None if deleted else order_of(stored))
        case "facts":
            event = FactChanged(stored.revision, name, None if deleted else fact_of(stored))
        case "epoch" | "confirmed" if stored.value.get("epoch") == epoch:
            event = EpochChanged(stored.revision, name or None)
    return event


def unreadable(key: str) -> EngineUnavailable:
    """Return the error of a key that does not hold what waportd writes."""
    return EngineUnavailable(
        f"the engine's key {key} does not hold what waportd writes",
        cause="unreadable",
        hint="a newer waportd, or somebody else, wrote it: upgrade waportd, or look at it with `etcdctl get`",
    )


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _encode(text: bytes) -> str:
    return base64.b64encode(text).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text)
