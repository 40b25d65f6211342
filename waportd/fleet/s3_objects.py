"""An object store in a bucket of S3, or of a server that speaks its protocol, such as MinIO, Ceph or Garage.

Needs python3-botocore, which only fleets with such a bucket load.
"""

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, TypeVar

import botocore.config
import botocore.session
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from waportd.fleet.bucket import KEY_FILE, Bucket, BucketKey
from waportd.fleet.chunks import Damaged
from waportd.fleet.objects import NAME, ObjectMissing, Place, StoreUnavailable
from waportd.fleet.threads import Threads
from waportd.plain import one_line

T = TypeVar("T")

MARK: Final = "waportd-snapshots"
"""An object that all hosts of the fleet see: they have the same bucket, and may read there."""
LIMIT_S: Final = 60.0
"""Seconds for one call."""
DOUBT_S: Final = 60.0
"""Seconds for which a place is left alone where a deletion was not answered: it may happen late, and a publication must
not rely on what it deletes."""
_CONNECT_S: Final = 5.0
_READ_S: Final = 20.0
_AT_ONCE: Final = 1000
"""Objects that one request deletes at most (DeleteObjects)."""
_MISSING: Final = {"NoSuchKey", "404"}
_REFUSED: Final = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}
_TEXT: Final = 300
"""Characters that are repeated of what a server says."""

# At the level debug they log what they sign, and each answer.
for _name in ("botocore", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class S3Objects:
    """A store in a bucket."""

    def __init__(self, bucket: Bucket, key: BucketKey, *, limit_s: float = LIMIT_S) -> None:
        self._bucket = bucket
        self._limit_s = limit_s
        self._threads = Threads(limit_s)
        self._key = key
        self._doubtful: dict[Place, float] = {}

    @functools.cached_property
    def _s3(self) -> Any:
        """The client, which takes a quarter of a second to make: in a thread. Two of them would be as good."""
        return _client(self._bucket, self._key)

    async def create(self) -> None:
        """Make the bucket a store, once for all hosts. Raises StoreUnavailable."""
        await self._run(MARK, lambda: self._put(MARK, b"Snapshots of a fleet of waportd.\n"))

    async def check(self) -> None:
        """Raise StoreUnavailable where this is no store, or cannot be used with this key."""
        try:
            await self._run(MARK, lambda: self._get(MARK, 1000))
        except ObjectMissing:
            raise StoreUnavailable(
                f"{self._bucket} is not the place of the fleet's snapshots: it has no object {MARK}",
                hint="compare `snapshots` in fleet.yaml with that of the other hosts",
            ) from None

    async def put(self, place: Place, name: str, content: bytes) -> None:
        """Store an object, as `Objects.put`: a server that has answered has it safe."""
        key = _key(place, name)
        await self._at(place, lambda: self._put(key, content))

    async def get(self, place: Place, name: str, most: int) -> bytes:
        """Return an object, as `Objects.get`."""
        key = _key(place, name)
        return await self._at(place, lambda: self._get(key, most))

    async def list(self, place: Place) -> Mapping[str, int]:
        """Return names and sizes, as `Objects.list`."""
        folder = f"{self._bucket.prefix}{_folder(place)}"

        def work() -> dict[str, int]:
            found = {
                each["Key"].removeprefix(folder): int(each["Size"])
                for page in self._pages(folder)
                for each in page.get("Contents", ())
            }
            return {name: size for name, size in found.items() if NAME.fullmatch(name)}

        return await self._at(place, work)

    async def tokens(self, user: str) -> Collection[int]:
        """Return tokens, as `Objects.tokens`."""
        place = Place(user, 0)
        folder = f"{self._bucket.prefix}{place.user}/"

        def work() -> list[int]:
            found = [
                each["Prefix"].removeprefix(folder).rstrip("/")
                for page in self._pages(folder, Delimiter="/")
                for each in page.get("CommonPrefixes", ())
            ]
            return [int(token) for token in found if token.isascii() and token.isdecimal()]

        return await self._at(place, work)

    async def delete(self, place: Place, objects: Collection[str]) -> None:
        """Delete objects, as `Objects.delete`. Nothing is left of a `put` that was cut off."""
        keys = [f"{self._bucket.prefix}{_key(place, name)}" for name in objects]

        def work() -> None:
            for at in range(0, len(keys), _AT_ONCE):
                some = [{"Key": key} for key in keys[at : at + _AT_ONCE]]
                answer = self._s3.delete_objects(
                    Bucket=self._bucket.name, Delete={"Objects": some, "Quiet": True}
                )
                for error in answer.get("Errors", ()):
                    if error.get("Code") not in _MISSING:
                        raise ClientError({"Error": error}, "DeleteObjects")

        try:
            await self._at(place, work)
        except StoreUnavailable as error:
            if error.cause != _REFUSAL:
                self._doubtful[place] = asyncio.get_running_loop().time() + DOUBT_S
            raise

    def _put(self, key: str, content: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket.name, Key=self._bucket.prefix + key, Body=content)

    def _get(self, key: str, most: int) -> bytes:
        body = self._s3.get_object(Bucket=self._bucket.name, Key=self._bucket.prefix + key)["Body"]
        content = b""
        try:
            # To its end: only there botocore notices that some of it is missing.
            while len(content) <= most and (piece := body.read(most + 1)):
                content += piece
        finally:
            body.close()
        if len(content) > most:
            raise Damaged(f"{self._bucket}/{key} is longer than it can be")
        return content

    def _pages(self, folder: str, **options: str) -> Iterator[Any]:
        pages = self._s3.get_paginator("list_objects_v2")
        found: Iterator[Any] = iter(pages.paginate(Bucket=self._bucket.name, Prefix=folder, **options))
        return found

    async def _at(self, place: Place, work: Callable[[], T]) -> T:
        left = self._doubtful.get(place, 0) - asyncio.get_running_loop().time()
        if left > 0:
            raise StoreUnavailable(
                f"{self._bucket} has not answered a deletion, which may still happen",
                hint=f"it is used again in {left:.0f} s",
            )
        self._doubtful.pop(place, None)
        return await self._run(place, work)

    async def _run(self, key: Place | str, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(key, work)
        except TimeoutError:
            raise StoreUnavailable(
                f"{self._bucket} did not answer within {self._limit_s:g} s", hint=_LOOK
            ) from None
        except ClientError as error:
            raise self._refused(error) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise StoreUnavailable(
                f"{self._bucket} does not answer: {one_line(str(error))[:_TEXT]}", hint=_LOOK
            ) from error

    def _refused(self, error: ClientError) -> ObjectMissing | StoreUnavailable:
        said = error.response.get("Error", {})
        code, text = str(said.get("Code", "")), one_line(str(said.get("Message", "")))[:_TEXT]
        if code in _MISSING:
            return ObjectMissing(f"{self._bucket} does not have the object")
        if code in _REFUSED:
            hint = (
                f"give the key in {KEY_FILE} the right to list, read, write and delete below {self._bucket}"
            )
        elif code == "NoSuchBucket":
            hint = "make the bucket, or correct `snapshots` in fleet.yaml on all hosts"
        else:
            hint = _LOOK
        return StoreUnavailable(f"{self._bucket} refuses: {text or code}", cause=_REFUSAL, hint=hint)


_REFUSAL: Final = "refused"
_LOOK: Final = "look whether the server of the bucket is up, and reached from this host"


def _client(bucket: Bucket, key: BucketKey) -> Any:
    session = botocore.session.Session()
    # Nothing of an account's own files and variables counts here.
    for variable in ("config_file", "credentials_file"):
        session.set_config_variable(variable, os.devnull)
    options: dict[str, Any] = {
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path"},
        "connect_timeout": _CONNECT_S,
        "read_timeout": _READ_S,
        "retries": {"mode": "standard", "total_max_attempts": 2},
        "proxies": {},
    }
    # Later versions add checksums, which servers other than Amazon's may not know.
    checksums = ("request_checksum_calculation", "response_checksum_validation")
    known = botocore.config.Config.OPTION_DEFAULTS
    options |= {name: "when_required" for name in checksums if name in known}
    return session.create_client(
        "s3",
        endpoint_url=bucket.endpoint,
        region_name=key.region,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        config=botocore.config.Config(**options),
    )


def _folder(place: Place) -> str:
    return f"{place.user}/{place.token}/"


def _key(place: Place, name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is not the name of an object")
    return _folder(place) + name
