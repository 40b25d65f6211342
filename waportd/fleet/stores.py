"""Which stores have the snapshots of a user: one folder for all users, or some of the other hosts."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from waportd.errors import ConfigError
from waportd.fleet.bucket import Bucket, BucketKey
from waportd.fleet.engine import Row, State
from waportd.fleet.objects import Objects
from waportd.fleet.placement import copy_holders

if TYPE_CHECKING:
    from waportd.fleet.s3_objects import S3Objects


class Stores(Protocol):
    """Gives the stores of a user's snapshots by name (that of `Row.copies`), the best first."""

    def holding(self, row: Row) -> Mapping[str, Objects]:
        """Return those that have what the row names."""

    def wanted(self, row: Row) -> Mapping[str, Objects]:
        """Return those that the next snapshot goes to; none where there is no place for it."""


class SameStores:
    """The same stores for all users."""

    def __init__(self, stores: Mapping[str, Objects]) -> None:
        self._stores = stores

    def holding(self, row: Row) -> Mapping[str, Objects]:  # noqa: ARG002
        """Return all."""
        return self._stores

    def wanted(self, row: Row) -> Mapping[str, Objects]:  # noqa: ARG002
        """Return all."""
        return self._stores


class HostStores:
    """The disks of hosts. The owner's is none of them: it would be lost together with the session."""

    def __init__(
        self,
        name: str,
        own: Objects,
        other: Callable[[str], Objects],
        newest: Callable[[], State | None],
        copies: int,
    ) -> None:
        """``own`` is the store of this host, ``other`` returns that of another one, and ``newest`` the newest state."""
        self._name = name
        self._own = own
        self._other = other
        self._newest = newest
        self._copies = copies

    def holding(self, row: Row) -> Mapping[str, Objects]:
        """Return the hosts that the row names, this one first."""
        return self._of(sorted(row.copies, key=lambda host: host != self._name))

    def wanted(self, row: Row) -> Mapping[str, Objects]:
        """Return hosts that are chosen for the user; fewer than there should be where there are not enough."""
        state = self._newest()
        return self._of(copy_holders(row, state, copies=self._copies)) if state else {}

    def _of(self, hosts: list[str] | tuple[str, ...]) -> Mapping[str, Objects]:
        return {host: self._own if host == self._name else self._other(host) for host in hosts}


def in_bucket(bucket: Bucket, key: BucketKey) -> "S3Objects":
    """Return the store in a bucket. Raises ConfigError where this host has not what speaks to one."""
    try:
        from waportd.fleet.s3_objects import S3Objects  # noqa: PLC0415  # most fleets do without
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"logins lie in a bucket, and {error.name} is not installed", hint="apt install python3-botocore"
        ) from error
    return S3Objects(bucket, key)
