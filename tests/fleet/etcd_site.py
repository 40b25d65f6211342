"""A cluster of etcd as a test sees it: below a prefix of its own, with clients that are closed at the end."""

import contextlib
import itertools
from pathlib import Path

from engine_contract import Fleet

from waportd.fleet.etcd import Etcd

AMPLE_S = 20.0
"""Seconds that a call takes at most, where a test does not wait for the end of that."""
AWAY_S = 1.0
"""Seconds that it takes while a test has the engine be away."""
_numbers = itertools.count()


class Site:
    """A cluster, below a prefix that no other test uses."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.prefix = f"/test{next(_numbers)}"
        self._engines = []
        self._limit_s = AMPLE_S

    def engine(self, limit_s=None, endpoints=None, **options):
        limit_s = limit_s or self._limit_s
        engine = Etcd(endpoints or self.cluster.endpoints, prefix=self.prefix, limit_s=limit_s, **options)
        self._engines.append(engine)
        return engine

    async def fleet(self, *names, engine=None, **options):
        fleet = Fleet(engine or self.engine(**options))
        [first, *_] = await fleet.join(*names)
        await fleet.engine.state()
        await fleet.engine.settle(first)
        return fleet

    async def close(self):
        for engine in self._engines:
            await engine.close()

    def interrupt(self):
        self.cluster.kill()
        self.cluster.start()

    def compact(self, revision):
        self.cluster.compact(revision)

    def save(self):
        return self.cluster.save()

    def restore(self, saved):
        self.cluster.restore(saved, f"token{next(_numbers)}")

    def set_up_again(self):
        self.cluster.set_up_again(f"token{next(_numbers)}")

    @contextlib.contextmanager
    def away(self):
        self._limit_all(AWAY_S)
        self.cluster.kill()
        try:
            yield
        finally:
            self.cluster.start()
            self._limit_all(AMPLE_S)

    def _limit_all(self, limit_s):
        self._limit_s = limit_s
        for engine in self._engines:
            engine.limit_s = limit_s

    def connections(self):
        """Return how many connections to the members this process has."""
        ports = tuple(f":{member.port:04X}" for member in self.cluster.members)
        lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        sockets = {f"socket:[{fields[9]}]" for fields in lines if fields[2].endswith(ports)}
        return sum(_target(path) in sockets for path in Path("/proc/self/fd").iterdir())


def _target(path):
    with contextlib.suppress(FileNotFoundError):  # the folder itself was open
        return str(path.readlink())
    return None


@contextlib.asynccontextmanager
async def site_on(cluster):
    site = Site(cluster)
    try:
        yield site
    finally:
        await site.close()
