"""What this host needs to know to be one of its fleet: one file, which `waportctl fleet init` and `join` write.

Not a part of config.yaml: it is written by a program, and a host on its own has none of it.
"""

import dataclasses
import ipaddress
import ssl
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import yaml

from waportd import files
from waportd.errors import ConfigError
from waportd.fleet.bucket import SCHEME, Bucket
from waportd.fleet.identity import BadName, Identity, check_name

FOLDER: Final = "fleet"
"""Beside config.yaml: keys, certificates and this file."""
FILE: Final = "fleet.yaml"
SNAPSHOT_KEY: Final = "snapshots.key"
"""Beside it, on all hosts the same: with what the logins are encrypted (`waportd.fleet.chunks.FleetKeys`)."""
PEERS: Final = "peers"
"""The value of `Settings.snapshots` with which hosts keep the logins of one another's users."""
_MAX_BYTES: Final = 64 * 1024
_MAX_PORT: Final = 65535
_MOST_COPIES: Final = 10
_FIX: Final = "`waportctl fleet join` writes the file again"


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """The place of this host in its fleet."""

    name: str
    address: str
    """Where the other hosts reach it: IP:PORT for the program that holds its lease; the daemon has the port after it."""
    engine: tuple[str, ...]
    """The URLs of etcd's members."""
    prefix: str = "/waportd"
    """Of all keys in etcd."""
    failover_after_s: float = 15.0
    """Seconds from the end of a host's lease until its users are taken."""
    snapshots: str = ""
    """Where the logins are for the other hosts: `PEERS`; or the folder with those of all users, which all hosts have: a
    mount; or a bucket (`waportd.fleet.bucket`). Empty: logins stay where they are."""
    copies: int = 2
    """With `PEERS`, how many other hosts have each login."""
    forward_ports: bool = False
    """Whether this host has the ports of users of other hosts, too (`waportd.fleet.forwarded_ports`)."""
    folder: Path = Path()
    """Where the file was, and keys and certificates are."""

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Return the settings in a folder; None where there are none: the host is on its own. Raises ConfigError."""
        try:
            with files.opened(folder) as descriptor:
                text = files.read(FILE, _MAX_BYTES, descriptor).decode()
            return cls(**_checked(yaml.safe_load(text)), folder=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{folder / FILE} cannot be read: {error.strerror}", hint=_FIX) from error
        except (ValueError, TypeError, BadName, yaml.YAMLError) as error:
            raise ConfigError(f"{folder / FILE}: {error}", hint=_FIX) from error

    @property
    def mount(self) -> Path | None:
        """The folder with the logins that all hosts have, if there is one."""
        return Path(self.snapshots) if self.snapshots.startswith("/") else None

    @property
    def bucket(self) -> Bucket | None:
        """The bucket with the logins of all users, if there is one."""
        return Bucket.parse(self.snapshots) if self.snapshots.startswith(SCHEME) else None

    @property
    def ip(self) -> str:
        """The address without the port."""
        return urlsplit(f"//{self.address}").hostname or ""

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        try:
            _checked(self._values())
        except (ValueError, TypeError) as error:
            raise ConfigError(str(error)) from error

    def _values(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        del values["folder"]
        return values | {"engine": list(self.engine)}

    def save(self) -> None:
        """Write the file, for `load`. Raises OSError."""
        text = yaml.safe_dump(self._values(), sort_keys=False)
        with files.opened(self.folder) as descriptor:
            files.replace(descriptor, FILE, text.encode(), mode=0o644)

    def tls(self) -> ssl.SSLContext | None:
        """Return how to speak to etcd: with the certificate of this host, where its URLs begin with https.

        Raises CertificateUnusable.
        """
        if not any(urlsplit(url).scheme == "https" for url in self.engine):
            return None
        return Identity.load(self.folder, self.name).client


def _checked(values: Any) -> dict[str, Any]:
    """Return the values of the file. Raises ValueError, which says what is wrong with them, and TypeError."""
    known = {field.name for field in dataclasses.fields(Settings)} - {"folder"}
    if not isinstance(values, dict):
        raise ValueError("it is not a list of keys and values")  # noqa: TRY004 - one error for all of it
    if unknown := values.keys() - known:
        raise ValueError(f"{', '.join(sorted(map(str, unknown)))}: no such key")
    engine = values.get("engine")
    if not isinstance(engine, list) or not engine or not all(map(_is_url, engine)):
        raise ValueError("engine: it has to be a list of URLs, such as https://192.0.2.1:2379")
    parts = urlsplit(f"//{values.get('address', '')}")
    ipaddress.ip_address(parts.hostname or "")
    if parts.port not in range(1, _MAX_PORT):
        raise ValueError(
            f"address: it has to be IP:PORT, with a port below {_MAX_PORT}: the one after it is used, too"
        )
    if float(values.get("failover_after_s", 15)) <= 0:
        raise ValueError("failover_after_s: it has to be more than 0")
    snapshots = values.get("snapshots", "")
    if isinstance(snapshots, str) and snapshots.startswith(SCHEME):
        Bucket.parse(snapshots)
    elif not isinstance(snapshots, str) or (snapshots not in {"", PEERS} and not snapshots.startswith("/")):
        raise ValueError(
            f"snapshots: it has to be {PEERS}, an absolute path, or the URL of a bucket after s3:"
        )
    copies = values.get("copies", 1)
    if not isinstance(copies, int) or copies not in range(1, _MOST_COPIES + 1):
        raise ValueError(f"copies: it has to be a number from 1 to {_MOST_COPIES}")
    if not isinstance(values.get("forward_ports", False), bool):
        raise ValueError("forward_ports: it has to be true or false")  # noqa: TRY004 - one error for all of it
    return values | {"name": check_name(str(values.get("name"))), "engine": tuple(engine)}


def _is_url(text: Any) -> bool:
    parts = urlsplit(text) if isinstance(text, str) else None
    return parts is not None and parts.scheme in {"http", "https"} and bool(parts.hostname)
