"""A server that speaks the protocol of S3 (moto), in a process of its own, and buckets on it."""

import contextlib
import itertools
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from testbed.ports import free_port, own_address

from waportd.fleet.bucket import Bucket, BucketKey

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / ".venv/bin/moto_server"
START_S = 60.0
KEY = BucketKey("id-of-the-key", "what-is-secret")
CREDENTIALS = "[default]\naws_access_key_id = id-of-the-key\naws_secret_access_key = what-is-secret\n"


class BucketServer:
    """Runs from `start` to `stop`, and again at the same address."""

    def __init__(self):
        self.address = own_address(3)
        self.port = free_port(self.address)
        self.url = f"http://{self.address}:{self.port}"
        self._process = None
        self._numbers = itertools.count()

    def start(self):
        self._process = subprocess.Popen(
            [PROGRAM, "-H", self.address, "-p", str(self.port)], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self):
        self._process.kill()
        self._process.wait()

    def _answers(self):
        with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5):
            return True
        return False

    def bucket(self, prefix="some/where"):
        """Return a new bucket."""
        name = f"snapshots-{next(self._numbers)}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")):
            return Bucket.parse(f"s3:{self.url}/{name}/{prefix}")


@contextlib.contextmanager
def running():
    """Run such a server."""
    server = BucketServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
