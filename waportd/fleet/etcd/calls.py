"""etcd as the engine: each call is one transaction, whose conditions etcd checks.

A call that writes may be sent twice, to two endpoints. If the first try did happen, the second fails; unless somebody
else has written since, that is recognized by the value's ``change``, and is a success. A try that arrives late, at a
member that stood still, meets a revision that is gone.
"""

import dataclasses
import math
import re
import secrets
import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from waportd.fleet.engine import (
    Change,
    Conflict,
    Engine,
    Fact,
    Host,
    Lease,
    LeaseLost,
    NameTaken,
    Order,
    Row,
    State,
    Unsettled,
)
from waportd.fleet.etcd.gateway import Gateway, cluster_of
from waportd.fleet.etcd.keys import (
    CHANGE,
    EPOCH,
    Keys,
    Part,
    Stored,
    confirmed_key,
    deleted_key,
    fact_key,
    fact_value,
    host_key,
    host_of,
    host_value,
    lease_key,
    order_key,
    order_value,
    port_key,
    row_of,
    row_value,
    token_of,
    user_key,
)
from waportd.fleet.etcd.state import read_state
from waportd.fleet.etcd.transactions import Transactions
from waportd.fleet.etcd.watch import SILENCE_S, follow

LIMIT_S: Final = 3.0
"""Seconds that a call takes at most."""
STATE_LIMIT_S: Final = 15.0
"""Seconds that it takes at most to read everything: 10,000 users are 6 MB."""
TOMBSTONE_S: Final = 7 * 86_400
"""Seconds for which it is known that a user was deleted."""
ORDER_S: Final = 3_600
"""Seconds after which an order is forgotten that nobody has done."""
FAILED_S: Final = 600
"""Seconds for which it is known why an order was not done. After that a host that drains tries again."""


_ALARM: Final = re.compile(r"alarm:(\w+)")


@dataclasses.dataclass(frozen=True, slots=True)
class _Hosts:
    """The list of hosts, as it is until one is changed."""

    cluster: str
    revision: int
    """At which it was read."""
    hosts: list[Host]


class Etcd(Engine):
    """The engine. Make it within the event loop. Nothing is sent before the first call."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: ssl.SSLContext | None = None,
        prefix: str = "/waportd",
        limit_s: float = LIMIT_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        """``endpoints`` are the URLs of members; ``tls`` has the CA, and the certificate of this host.

        A member that a watch has not heard of for ``silence_s`` seconds must show within a limit that it is there.
        """
        self._gateway = Gateway(endpoints, tls)
        self._keys = Keys(prefix)
        self.limit_s = limit_s
        """Seconds that a call takes at most."""
        self._silence_s = silence_s
        self._transactions = Transactions(self._gateway, self._keys)
        self._checked: Lease | None = None
        """The last lease that was renewed, and that its host held then."""
        self._known_hosts: _Hosts | None = None

    async def alarms(self) -> frozenset[str]:
        """Return the alarms that etcd has raised, such as NOSPACE. Raises EngineUnavailable."""
        # Not the call for alarms: 3.4 answers that without the id of its cluster.
        answer = await self._gateway.call("v3/maintenance/status", {}, self._deadline())
        return frozenset(name for text in answer.get("errors", ()) for name in _ALARM.findall(text))

    async def close(self) -> None:
        """End all connections."""
        await self._gateway.close()

    async def acquire(self, host: str, ttl_s: float) -> Lease:
        """Take the lease of a host, if there is none. Raises NameTaken."""
        deadline = self._deadline()
        number, granted_s = await self._transactions.grant(math.ceil(ttl_s), deadline)
        key, change = lease_key(host), _new_change()
        conditions = {key: self._keys.absent(key)}
        outcome = await self._transactions.transact(
            conditions, [self._keys.put(key, {CHANGE: change}, number)], deadline
        )
        other = outcome.found.get(key)
        if other is None or other.value.get(CHANGE) == change:
            return Lease(host, number, other.revision if other else outcome.revision, granted_s)
        await self._transactions.revoke(number, deadline)
        raise NameTaken(
            f"a host named {host} holds its lease",
            hint="if that host has just died, its lease ends within a minute; if it lives, choose another name here",
            retry_after=math.ceil(ttl_s),
        )

    async def renew(self, lease: Lease) -> None:
        """Keep a lease, also one of another host. Raises LeaseLost."""
        await self.renewed(lease)

    async def renewed(self, lease: Lease) -> list[Host]:
        """Keep a lease; return the list of hosts, without a word on their leases. Raises LeaseLost."""
        deadline = self._deadline()
        if lease != self._checked:
            # The id may be that of another host's lease. etcd never gives an id again: one look is enough.
            await self._read_held(lease, deadline)
            self._checked = lease
        if not await self._transactions.keep_alive(lease.id, deadline):
            raise _lease_lost(lease)
        # A leader that was cut off acknowledges, too: only what is read after that has a majority behind it.
        return await self._read_held(lease, deadline)

    async def _read_held(self, lease: Lease, deadline: float) -> list[Host]:
        """Return the list of hosts. Raises LeaseLost unless most members of etcd say that a host holds this lease."""
        own = {"key": self._keys.encode(lease_key(lease.host))}
        known, unless = self._known_hosts, None
        if known is not None:
            # The list is most of the answer, and rarely another one.
            unless = self._keys.none_since("hosts/", known.revision)
        answer, (leases, *changed) = await self._transactions.read_ranges(
            [own, self._keys.below("hosts/")], deadline, unless=unless, then=[own]
        )
        if not _is_held(lease, {one.key: one for one in leases}):
            raise _lease_lost(lease)
        revision, cluster = int(answer["header"]["revision"]), cluster_of(answer)
        if changed:
            known = _Hosts(cluster, revision, [host_of(one) for one in changed[0]])
        elif known is None or known.cluster != cluster or revision < known.revision:
            # What was restored from a backup counts otherwise.
            self._known_hosts = None
            return await self._read_held(lease, deadline)
        self._known_hosts = known
        return known.hosts

    async def release(self, lease: Lease) -> None:
        """Give a lease up, which may be lost already."""
        await self._transactions.revoke(lease.id, self._deadline())

    async def describe(self, host: Host) -> Host:
        """Write what is above ``alive``, if the host still has the revision seen; return it. Raises Conflict."""
        key, change = host_key(host.name), _new_change()
        revision = await self._replace(key, host.revision, host_value(host, change), self._deadline())
        if revision is None:
            raise Conflict(f"host {host.name} was changed since it was read", hint="read it again")
        return dataclasses.replace(host, revision=revision)

    async def confirm(self, lease: Lease) -> None:
        """Put on record that this host has put back, in this epoch, what it holds. Raises LeaseLost, Unsettled."""
        await self._record(lease, confirmed_key(lease.host))

    async def settle(self, lease: Lease) -> None:
        """Put on record that the epoch of the last `state` is settled. Raises LeaseLost, Unsettled."""
        await self._record(lease, EPOCH)

    async def reclaim(self, lease: Lease, row: Row) -> Row:
        """Put back a row that this host holds, with its token; return it. Raises LeaseLost, Unsettled, Conflict."""
        deadline = self._deadline()
        keys = [EPOCH, user_key(row.user), deleted_key(row.user), port_key(row.port)]
        found = await self._transactions.read(keys, deadline)
        self._refuse_reclaim(lease, row, found)
        conditions = {
            key: self._keys.unchanged(key, found[key].revision if key in found else 0) for key in keys
        }
        changes = [self._keys.put(port_key(row.port), {"user": row.user})]
        old = row_of(found[user_key(row.user)]) if user_key(row.user) in found else row
        if old.port != row.port:
            changes.append(self._keys.delete(port_key(old.port)))
        return await self._write(lease, row, conditions, deadline, changes=changes, settled=False)

    async def create(self, lease: Lease, row: Row) -> Row:
        """Create a row with this host as its owner; return it. Raises LeaseLost, Unsettled, Conflict."""
        deadline, deleted = self._deadline(), deleted_key(row.user)
        try:
            return await self._create(lease, row, None, deadline)
        except Unsettled:
            raise
        except Conflict:
            # Few users come back whose deletion is still known: only they cost another call.
            tombstone = (await self._transactions.read([deleted], deadline)).get(deleted)
            if tombstone is None:
                raise
        return await self._create(lease, row, tombstone, deadline)

    async def _create(self, lease: Lease, row: Row, tombstone: Stored | None, deadline: float) -> Row:
        user, deleted, port = user_key(row.user), deleted_key(row.user), port_key(row.port)
        conditions = {
            user: self._keys.absent(user),
            port: self._keys.absent(port),
            # A first try that arrives late must not bring a user back who was deleted after the second.
            deleted: self._keys.unchanged(deleted, tombstone.revision if tombstone else 0),
        }
        changes = [self._keys.put(port, {"user": row.user})]
        above = max(row.token, token_of(tombstone) if tombstone else 0)
        new = dataclasses.replace(row, host=lease.host)
        return await self._write(lease, new, conditions, deadline, changes=changes, above=above)

    async def update(self, lease: Lease, row: Row) -> Row:
        """Change a row of this host, if it has the revision seen; return it. Raises LeaseLost, Unsettled, Conflict."""
        return await self._write(lease, row, self._owned(lease, row), self._deadline())

    async def move(self, lease: Lease, row: Row, host: str) -> Row:
        """Make a live host the owner of a row; return it, with its new token. Raises LeaseLost, Unsettled, Conflict."""
        if host == row.host:
            raise Conflict(f"user {row.user} is on host {host} already")
        user, target, old = user_key(row.user), lease_key(host), lease_key(row.host)
        conditions = {
            user: self._keys.unchanged(user, row.revision),
            # One of the two is mostly this host, whose lease has a condition of its own, which takes the place of this.
            old: self._keys.absent(old),
            target: self._keys.exists(target),
        }
        new = dataclasses.replace(row, host=host)
        return await self._write(lease, new, conditions, self._deadline(), above=row.token)

    async def publish(self, lease: Lease, row: Row) -> Row:
        """Change snapshot and copies of a row that has the token; return it. Raises LeaseLost, Unsettled, Conflict."""
        deadline = self._deadline()
        key = user_key(row.user)
        while True:
            found = (await self._transactions.read([key], deadline)).get(key)
            seen = row_of(found) if found else None
            if seen is None or (seen.host, seen.token) != (lease.host, row.token):
                raise _conflict(row, found)
            new = dataclasses.replace(seen, snapshot=row.snapshot, copies=row.copies)
            try:
                return await self._write(lease, new, self._owned(lease, new), deadline)
            except Unsettled:
                raise
            except Conflict:
                continue  # the owner has changed something else meanwhile

    async def delete(self, row: Row) -> None:
        """Delete a row that has the revision seen, and leave a tombstone. Raises Unsettled, Conflict."""
        deadline = self._deadline()
        week, _ = await self._transactions.grant(TOMBSTONE_S, deadline)
        user, deleted, change = user_key(row.user), deleted_key(row.user), _new_change()
        conditions = {
            user: self._keys.unchanged(user, row.revision),
            **self._own_port(row),
            **self._transactions.settled(),
        }
        changes = [
            self._keys.delete(user),
            self._keys.delete(port_key(row.port)),
            self._keys.put(deleted, {"token": row.token, CHANGE: change}, week),
        ]
        outcome = await self._transactions.transact(conditions, changes, deadline, also=[deleted])
        tombstone = outcome.found.get(deleted)
        if outcome.done or (tombstone and tombstone.value.get(CHANGE) == change):
            return
        await self._transactions.revoke(week, deadline)
        self._transactions.check_settled(outcome.found)
        raise _conflict(row, outcome.found.get(user))

    async def order(self, order: Order) -> Order:
        """Write an order, if it still has the revision seen; return it. Raises Conflict."""
        deadline = self._deadline()
        number, _ = await self._transactions.grant(FAILED_S if order.failed else ORDER_S, deadline)
        key, change = order_key(order.user), _new_change()
        revision = await self._replace(key, order.revision, order_value(order, change), deadline, number)
        if revision is None:
            await self._transactions.revoke(number, deadline)
            raise Conflict(f"another order was given for user {order.user}", hint="look at it, and ask again")
        return dataclasses.replace(order, revision=revision)

    async def write(self, fact: Fact) -> Fact:
        """Write a fact, if it still has the revision seen; return it. Raises Conflict."""
        key, change = fact_key(fact.name), _new_change()
        revision = await self._replace(key, fact.revision, fact_value(fact, change), self._deadline())
        if revision is None:
            raise Conflict(f"{fact.name} was changed since it was read", hint="read it again")
        return dataclasses.replace(fact, revision=revision)

    async def erase(self, name: str) -> None:
        """Erase a fact; one that is not there is no error."""
        await self._transactions.transact({}, [self._keys.delete(fact_key(name))], self._deadline())

    async def state(self) -> State:
        """Return everything, as it is at one revision."""
        return await read_state(self._transactions, self._keys, time.monotonic() + STATE_LIMIT_S)

    def watch(self, revision: int) -> AsyncGenerator[Change, None]:
        """Yield each change after that revision of the last `state`, once and in order. Raises Unsettled without one."""
        return follow(
            self._gateway,
            self._keys,
            self._transactions.epoch,
            revision,
            limit_s=self.limit_s,
            silence_s=self._silence_s,
        )

    async def epoch(self) -> str:
        """Return the cluster id, now."""
        body = {"key": self._keys.encode(EPOCH), "count_only": True}
        return cluster_of(await self._transactions.ask("v3/kv/range", body, self._deadline()))

    async def _replace(
        self, key: str, revision: int, value: Mapping[str, Any], deadline: float, lease: int = 0
    ) -> int | None:
        """Write a key that has the revision seen; return its new one, or None where it has another."""
        outcome = await self._transactions.transact(
            {key: self._keys.unchanged(key, revision)}, [self._keys.put(key, value, lease)], deadline
        )
        if outcome.done:
            return outcome.revision
        found = outcome.found.get(key)
        return found.revision if found and found.value.get(CHANGE) == value[CHANGE] else None

    async def _write(
        self,
        lease: Lease,
        row: Row,
        conditions: Mapping[str, Part],
        deadline: float,
        *,
        changes: Sequence[Part] = (),
        above: int | None = None,
        settled: bool = True,
    ) -> Row:
        """Write a row, and other changes with it, if the lease is held, too; return the row.

        Raises LeaseLost, Unsettled, Conflict.
        """
        key, change = user_key(row.user), _new_change()
        value = row_value(row, change, above=above)
        needed = self._transactions.settled() if settled else {}
        outcome = await self._transactions.transact(
            {**conditions, **self._held(lease), **needed}, [self._keys.put(key, value), *changes], deadline
        )
        if outcome.done:
            return row_of(Stored(key, value, outcome.revision))
        found = outcome.found.get(key)
        if found and found.value.get(CHANGE) == change:
            return row_of(found)
        if not _is_held(lease, outcome.found):
            raise _lease_lost(lease)
        if settled:
            self._transactions.check_settled(outcome.found)
        raise _conflict(row, found, outcome.found)

    async def _record(self, lease: Lease, key: str) -> None:
        value = {"epoch": self._transactions.epoch}
        outcome = await self._transactions.transact(
            self._held(lease), [self._keys.put(key, value)], self._deadline()
        )
        if not outcome.done:
            raise _lease_lost(lease)

    def _refuse_reclaim(self, lease: Lease, row: Row, found: Mapping[str, Stored]) -> None:
        """Raise Conflict where the engine knows better than this host."""
        other, tombstone = found.get(user_key(row.user)), found.get(deleted_key(row.user))
        port = found.get(port_key(row.port))
        if self._transactions.is_settled(found):
            raise Conflict("the epoch is settled: nothing is put back any more")
        if row.host != lease.host or (other and _is_newer(row_of(other), row)):
            raise _conflict(row, other)
        if tombstone and token_of(tombstone) >= row.token:
            raise Conflict(f"user {row.user} was deleted")
        if port and port.value.get("user") != row.user:
            raise _conflict(row, other, found)

    def _owned(self, lease: Lease, row: Row) -> dict[str, Part]:
        """Return the conditions of what only the owner does. Raises Conflict where this host is not."""
        if row.host != lease.host:
            raise Conflict(f"user {row.user} is on host {row.host}, not on {lease.host}")
        key = user_key(row.user)
        return {key: self._keys.unchanged(key, row.revision), **self._own_port(row)}

    def _own_port(self, row: Row) -> dict[str, Part]:
        return {port_key(row.port): self._keys.holds(port_key(row.port), {"user": row.user})}

    def _held(self, lease: Lease) -> dict[str, Part]:
        key = lease_key(lease.host)
        return {key: self._keys.unchanged(key, lease.incarnation)}

    def _deadline(self) -> float:
        return time.monotonic() + self.limit_s


def _new_change() -> str:
    return secrets.token_hex(8)


def _is_held(lease: Lease, found: Mapping[str, Stored]) -> bool:
    stored = found.get(lease_key(lease.host))
    return stored is not None and (stored.revision, stored.lease) == (lease.incarnation, lease.id)


def _lease_lost(lease: Lease) -> LeaseLost:
    return LeaseLost(
        f"host {lease.host} has lost its lease of revision {lease.incarnation}",
        hint="it was not renewed in time, or given up; a new one is acquired when the engine answers",
    )


def _is_newer(one: Row, other: Row) -> bool:
    return one.token > other.token or (one.token == other.token and one.host != other.host)


def _conflict(row: Row, other: Stored | None, found: Mapping[str, Stored] | None = None) -> Conflict:
    """Say which condition did not hold: of the row, or of what else was found."""
    port = (found or {}).get(port_key(row.port))
    if other is not None and (now := row_of(other)).revision != row.revision:
        said = f"user {row.user} is on host {now.host}, and was changed at revision {now.revision}"
    elif other is None and row.revision:
        said = f"user {row.user} was deleted"
    elif port is not None and port.value.get("user") != row.user:
        said = f"port {row.port} is that of user {port.value.get('user')}"
    else:
        said = f"user {row.user}: a host that must be alive has no lease, or one that must be dead has one"
    return Conflict(said, hint="read the state of the fleet again")
