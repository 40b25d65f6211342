"""Snapshots in a bucket: where it is and its key, and a server that is away, refuses, or answers late."""

import asyncio
import contextlib
import logging
import sys

import pytest
from bucket_server import KEY
from testbed.ports import free_port, own_address

from waportd.errors import ConfigError
from waportd.fleet.bucket import KEY_FILE, Bucket, BucketKey
from waportd.fleet.chunks import KeyUnusable
from waportd.fleet.objects import Place, StoreUnavailable
from waportd.fleet.s3_objects import S3Objects
from waportd.fleet.stores import in_bucket

PLACE = Place("2_1", 5)
ONE = "1" * 64
CREDENTIALS = """\
[default]
aws_access_key_id = some-id
aws_secret_access_key = a%secret=with/signs
"""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3:https://s3.example.org/logins", ("https://s3.example.org", "logins", "")),
        ("s3:https://s3.example.org/logins/", ("https://s3.example.org", "logins", "")),
        ("s3:http://127.0.0.1:9000/b/of/ours/", ("http://127.0.0.1:9000", "b", "of/ours/")),
    ],
)
def test_a_bucket_is_where_its_url_says(text, parts):
    bucket = Bucket.parse(text)
    assert (bucket.endpoint, bucket.name, bucket.prefix) == parts
    assert str(bucket) == text.rstrip("/")


@pytest.mark.parametrize(
    "text", ["s3:", "s3:bucket", "s3:https://s3.example.org", "s3:ftp://a/b", "s3:https://a/b?c"]
)
def test_anything_else_is_no_bucket(text):
    with pytest.raises(ValueError, match="is no bucket, such as s3:https://"):
        Bucket.parse(text)


def test_a_key_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match=r"belongs into s3\.key") as caught:
        Bucket.parse("s3:https://id:secret@s3.example.org/b")
    assert "secret" not in str(caught.value)


def test_a_key_is_read_as_the_tools_of_aws_write_it(tmp_path):
    path = tmp_path / KEY_FILE
    path.write_text(CREDENTIALS)
    assert BucketKey.read(path) == BucketKey("some-id", "a%secret=with/signs", "us-east-1")
    path.write_text(CREDENTIALS + "region = eu-central-1\n[other]\nx = y\n")
    assert BucketKey.read(path).region == "eu-central-1"
    assert "secret" not in repr(BucketKey.read(path))


@pytest.mark.parametrize(
    "text", ["", "[other]\n", "nonsense-secret", "[default]\naws_access_key_id = secret\n"]
)
def test_a_file_that_has_no_key_is_refused_and_not_repeated(tmp_path, text):
    path = tmp_path / KEY_FILE
    path.write_text(text)
    with pytest.raises(KeyUnusable, match="no file of credentials") as caught:
        BucketKey.read(path)
    assert "secret" not in caught.value.message
    assert caught.value.__cause__ is None
    with pytest.raises(KeyUnusable, match="No such file"):
        BucketKey.read(tmp_path / "none")


def test_a_host_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "waportd.fleet.s3_objects", None)
    with pytest.raises(ConfigError) as caught:
        in_bucket(Bucket.parse("s3:https://s3.example.org/b"), KEY)
    assert caught.value.hint == "apt install python3-botocore"


class TestServer:
    async def test_all_hosts_see_the_same_place_or_are_refused(self, bucket_server):
        bucket = bucket_server.bucket()
        with pytest.raises(StoreUnavailable, match="is not the place of the fleet's snapshots") as caught:
            await S3Objects(bucket, KEY).check()
        assert "fleet.yaml" in caught.value.hint
        await S3Objects(bucket, KEY).create()
        await S3Objects(bucket, KEY).check()

    async def test_a_bucket_that_is_not_there_is_named(self, bucket_server):
        missing = Bucket.parse(f"s3:{bucket_server.url}/none")
        with pytest.raises(StoreUnavailable, match="refuses: The specified bucket does not exist") as caught:
            await S3Objects(missing, KEY).put(PLACE, ONE, b"")
        assert caught.value.hint.startswith("make the bucket")

    async def test_many_objects_are_listed_and_deleted(self, bucket_server):
        store = S3Objects(bucket_server.bucket(), KEY)
        names = [f"{number:064x}" for number in range(1005)]
        await asyncio.gather(*(store.put(PLACE, name, b"x") for name in names[:3]))
        await store.delete(PLACE, names)
        assert await store.list(PLACE) == {}

    async def test_what_others_put_there_is_not_looked_at(self, bucket_server):
        bucket = bucket_server.bucket()
        store = S3Objects(bucket, KEY)
        await store.put(PLACE, ONE, b"one")
        near = Bucket(bucket.endpoint, bucket.name, f"{bucket.prefix}2_1/")
        await S3Objects(near, KEY).put(Place("5", 7), ONE, b"two")
        assert await store.list(PLACE) == {ONE: 3}
        assert await store.tokens("2_1") == [5]
        assert await store.tokens("2") == []

    @pytest.mark.parametrize("name", ["..", "x", "../" + ONE, ONE[1:], ONE + "\n"])
    async def test_what_is_no_name_is_refused(self, bucket_server, name):
        store = S3Objects(bucket_server.bucket(), KEY)
        for call in (store.put(PLACE, name, b""), store.get(PLACE, name, 1), store.delete(PLACE, [name])):
            with pytest.raises(ValueError, match="is not the name of an object"):
                await call


class TestFaults:
    @pytest.fixture
    async def refused(self):
        """What a server answers, which is called with the key; return a store there."""
        async with answering(
            403, b"<Error><Code>AccessDenied</Code><Message>Not you.</Message></Error>"
        ) as url:
            yield S3Objects(Bucket.parse(f"s3:{url}/b"), KEY)

    async def test_a_key_that_may_not_is_said_so_without_its_secret(self, refused, caplog):
        caplog.set_level(logging.DEBUG)
        with pytest.raises(StoreUnavailable, match="refuses: Not you") as caught:
            await refused.put(PLACE, ONE, b"content")
        assert "s3.key" in caught.value.hint
        assert KEY.secret not in f"{caught.value} {caught.value.hint} {caplog.text}"
        assert "Signature" not in caplog.text

    async def test_a_server_that_is_away_is_named(self):
        async with answering(200, b"") as url:
            gone = url
        with pytest.raises(StoreUnavailable, match="does not answer") as caught:
            await S3Objects(Bucket.parse(f"s3:{gone}/b"), KEY).get(PLACE, ONE, 1)
        assert caught.value.hint == "look whether the server of the bucket is up, and reached from this host"

    async def test_one_that_hangs_is_given_up(self):
        async with answering(200, None) as url:
            store = S3Objects(Bucket.parse(f"s3:{url}/b"), KEY, limit_s=1.0)
            with pytest.raises(StoreUnavailable, match="did not answer within 1 s"):
                await store.get(PLACE, ONE, 1)

    async def test_a_place_is_left_alone_while_a_deletion_may_still_happen(self):
        async with answering(200, None) as url:
            store = S3Objects(Bucket.parse(f"s3:{url}/b"), KEY, limit_s=1.0)
            with pytest.raises(StoreUnavailable, match="did not answer"):
                await store.delete(PLACE, [ONE])
            with pytest.raises(StoreUnavailable, match="has not answered a deletion"):
                await store.list(PLACE)
            # Others are not concerned.
            with pytest.raises(StoreUnavailable, match="did not answer"):
                await store.list(Place("3", 1))

    async def test_a_deletion_that_is_refused_leaves_no_doubt(self, refused):
        for call in (refused.delete(PLACE, [ONE]), refused.list(PLACE)):
            with pytest.raises(StoreUnavailable, match="refuses"):
                await call

    async def test_an_answer_that_breaks_off_is_no_object(self):
        async with answering(200, b"half of it", length=1000) as url:
            store = S3Objects(Bucket.parse(f"s3:{url}/b"), KEY)
            with pytest.raises(StoreUnavailable):
                await store.get(PLACE, ONE, 2000)

    async def test_a_server_that_comes_back_is_used_again(self, own_bucket_server):
        bucket = own_bucket_server.bucket()
        store = S3Objects(bucket, KEY)
        own_bucket_server.stop()
        with pytest.raises(StoreUnavailable):
            await store.put(PLACE, ONE, b"one")
        await asyncio.to_thread(own_bucket_server.start)
        with pytest.raises(StoreUnavailable, match="bucket does not exist"):
            await store.put(PLACE, ONE, b"one")  # it has kept nothing, but it answers


@contextlib.asynccontextmanager
async def answering(status, body, length=None):
    """Have a server that answers everything so; None: it never does. Return its URL."""
    connections = set()

    async def serve(reader, writer):
        connections.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            if body is None:
                await asyncio.sleep(60)
            size = len(body) if length is None else length
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
            )
            writer.write(body)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, own_address(2), free_port(own_address(2)))
    address, port = server.sockets[0].getsockname()
    try:
        yield f"http://{address}:{port}"
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()
