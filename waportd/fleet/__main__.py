"""The program of waportd-lease.service, for the host and the engine that fleet.yaml names."""

import os
import sys
from pathlib import Path

from waportd.errors import WaportdError
from waportd.fleet.engine import Lease
from waportd.fleet.etcd import Etcd
from waportd.fleet.failsafe import Peers
from waportd.fleet.keeper import ExitStatus, Leases
from waportd.fleet.program import main
from waportd.fleet.settings import Settings
from waportd.fleet.timing import Timing

FOLDER = Path(os.environ.get("WAPORTD_FLEET", "/etc/waportd/fleet"))


class NobodyElse:
    """No other host is asked: while the engine is away, there is no failsafe."""

    def others(self) -> tuple[str, ...]:
        """Return nobody."""
        return ()

    async def renew(self, host: str, lease: Lease) -> str:
        """Never called."""
        raise NotImplementedError


def run() -> None:
    """Hold the lease of this host."""
    try:
        settings = Settings.load(FOLDER)
        if settings is None:
            sys.exit(f"{FOLDER} has no fleet.yaml: this host belongs to no fleet")
        tls, timing = settings.tls(), Timing.from_environment()
    except WaportdError as error:
        print(f"{error}; {error.hint}", file=sys.stderr)  # noqa: T201
        sys.exit(ExitStatus.REFUSED)

    async def connect() -> tuple[Leases, Peers]:
        engine = Etcd(settings.engine, tls=tls, prefix=settings.prefix, limit_s=timing.call_s)
        return engine, NobodyElse()

    main(settings.name, connect)


if __name__ == "__main__":
    run()
