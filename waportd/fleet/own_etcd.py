"""An etcd on this host, for fleets that have none elsewhere: Debian's etcd.service, with the fleet's certificates.

It is one of the members of the fleet's cluster. Nothing of it is ours but its settings: a file of environment, and a
drop-in that has systemd read it.
"""

import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from waportd.fleet import key_files
from waportd.fleet.etcd.members import Member
from waportd.fleet.identity import CA_FILE, HOST_FILE

PROGRAM: Final = "etcd"
"""What runs, and whose account it runs as."""
UNIT: Final = "etcd.service"
DROP_IN: Final = f"{UNIT}.d/50-waportd.conf"
DEFAULTS: Final = Path("/etc/default/etcd")
"""Where an administrator sets up an etcd of another kind."""
CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
ENVIRONMENT: Final = "etcd.env"
CERTIFICATE: Final = "etcd.pem"
"""Beside fleet.yaml: this host's certificate and key, which etcd's account may read."""
DATA: Final = Path("/var/lib/etcd/waportd")
"""Not the folder of the package: its etcd has begun a cluster of its own there when it was installed."""
_READABLE: Final = 0o640


def client_url(ip: str) -> str:
    """Return where hosts of the fleet ask the etcd on a host."""
    return f"https://{_bracketed(ip)}:{CLIENT_PORT}"


def peer_url(ip: str) -> str:
    """Return where the other members reach it."""
    return f"https://{_bracketed(ip)}:{PEER_PORT}"


def new_cluster(fleet: str, name: str, ip: str) -> dict[str, str]:
    """Return the settings of the first member: a cluster that no other one is taken for."""
    token = f"{fleet}-{secrets.token_hex(8)}"
    return {
        "ETCD_INITIAL_CLUSTER": f"{name}={peer_url(ip)}",
        "ETCD_INITIAL_CLUSTER_STATE": "new",
        "ETCD_INITIAL_CLUSTER_TOKEN": token,
    }


def joined_cluster(name: str, ip: str, members: Iterable[Member]) -> dict[str, str]:
    """Return the settings of one that was added to these members, and is one of them."""
    own = peer_url(ip)
    named = [(name if own in one.peers else one.name, url) for one in members for url in one.peers]
    return {
        "ETCD_INITIAL_CLUSTER": ",".join(f"{who}={url}" for who, url in named if who),
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
    }


def environment(
    name: str, ip: str, folder: Path, cluster: Mapping[str, str], data: Path = DATA
) -> dict[str, str]:
    """Return all settings of a member (https://etcd.io/docs/v3.5/op-guide/configuration/).

    Only who shows a certificate of the fleet is answered.
    """
    tls = {"CERT_FILE": CERTIFICATE, "KEY_FILE": CERTIFICATE, "TRUSTED_CA_FILE": CA_FILE}
    files = {f"ETCD_{kind}{what}": str(folder / file) for kind in ("", "PEER_") for what, file in tls.items()}
    return {
        "ETCD_NAME": name,
        "ETCD_DATA_DIR": str(data),
        "ETCD_LISTEN_CLIENT_URLS": client_url(ip),
        "ETCD_ADVERTISE_CLIENT_URLS": client_url(ip),
        "ETCD_LISTEN_PEER_URLS": peer_url(ip),
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": peer_url(ip),
        "ETCD_CLIENT_CERT_AUTH": "true",
        "ETCD_PEER_CLIENT_CERT_AUTH": "true",
        # Otherwise each change is kept for ever, until its quota is used up.
        "ETCD_AUTO_COMPACTION_MODE": "periodic",
        "ETCD_AUTO_COMPACTION_RETENTION": "1h",
        **files,
        **cluster,
    }


def drop_in(folder: Path) -> str:
    """Return the drop-in for etcd.service."""
    return f"""\
# This etcd is a member of the cluster of the fleet of waportd. `waportctl fleet leave` removes it.

[Service]
EnvironmentFile=
EnvironmentFile={folder / ENVIRONMENT}
# Also where its address is not there yet at boot.
Restart=always
RestartSec=5
"""


def write(folder: Path, units: Path, settings: Mapping[str, str], group: int) -> None:
    """Write the settings of this host's member; ``group`` is that of etcd's account. Raises OSError."""
    keep_certificate(folder, group)
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    key_files.write(folder / ENVIRONMENT, text.encode(), mode=0o644)
    path = units / DROP_IN
    path.parent.mkdir(mode=0o755, exist_ok=True)
    key_files.write(path, drop_in(folder).encode(), mode=0o644)


def keep_certificate(folder: Path, group: int) -> None:
    """Have etcd show the certificate that this host has now: it reads the file for each connection. Raises OSError."""
    content = (folder / HOST_FILE).read_bytes()
    key_files.write(folder / CERTIFICATE, content, mode=_READABLE, owner=(0, group))


def is_there(folder: Path) -> bool:
    """Return whether this host has a member of the fleet's cluster."""
    return (folder / ENVIRONMENT).exists()


def forget(units: Path, data: Path = DATA) -> None:
    """Remove what is outside the folder of the fleet: the drop-in, and the data. Raises OSError."""
    path = units / DROP_IN
    path.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
    shutil.rmtree(data, ignore_errors=True)


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
