"""A bucket for snapshots, and the key for it: what an administrator writes down. Nothing here speaks to it."""

import configparser
import dataclasses
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from waportd import files
from waportd.fleet.chunks import KeyUnusable

SCHEME: Final = "s3:"
"""How the value of `Settings.snapshots` begins that names a bucket."""
KEY_FILE: Final = "s3.key"
"""The key, beside fleet.yaml, on all hosts the same: a file of credentials as the tools of AWS have it."""
_MAX_BYTES: Final = 16 * 1024
_REGION: Final = "us-east-1"
"""What S3 takes where no region matters, as on most servers but Amazon's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects lie: ``s3:https://SERVER/BUCKET/PREFIX``, as restic writes it."""

    endpoint: str
    """The URL of the server."""
    name: str
    prefix: str
    """How all keys begin: empty, or with a slash at its end."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a location. Raises ValueError."""
        parts = urlsplit(text.removeprefix(SCHEME))
        name, _, prefix = parts.path.strip("/").partition("/")
        if parts.scheme not in {"https", "http"} or not parts.hostname or not name or parts.query:
            raise ValueError(f"{text!r:.200} is no bucket, such as s3:https://s3.example.org/bucket/prefix")
        if parts.username is not None:
            raise ValueError(f"the key of the bucket belongs into {KEY_FILE}, not into its URL")
        return cls(f"{parts.scheme}://{parts.netloc}", name, f"{prefix.rstrip('/')}/" if prefix else "")

    def __str__(self) -> str:
        return f"{SCHEME}{self.endpoint}/{self.name}/{self.prefix}".rstrip("/")


@dataclasses.dataclass(frozen=True, slots=True)
class BucketKey:
    """A key for a bucket."""

    id: str
    secret: str = dataclasses.field(repr=False)
    region: str = _REGION

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the key in a file. Raises KeyUnusable."""
        try:
            return cls.parse(files.read(path, _MAX_BYTES), path)
        except OSError as error:
            raise KeyUnusable(f"{path}: {error.strerror}", hint=_HINT) from error

    @classmethod
    def parse(cls, content: bytes, path: Path = Path(KEY_FILE)) -> Self:
        """Read the content of such a file. Raises KeyUnusable, whose words have nothing of it."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(content.decode())
            found = parser["default"]
            return cls(
                found["aws_access_key_id"], found["aws_secret_access_key"], found.get("region", _REGION)
            )
        except (ValueError, KeyError, configparser.Error):
            raise KeyUnusable(f"{path} is no file of credentials", hint=_HINT) from None


_HINT: Final = (
    "it has a section [default] with aws_access_key_id, aws_secret_access_key and, for Amazon's S3, region"
)
