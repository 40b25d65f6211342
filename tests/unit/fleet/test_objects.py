"""What every store of objects does: in memory, in a folder, in a bucket, and on the disk of another host, over real TLS."""

import pytest
from bucket_server import KEY
from storing import Memory, noise
from two_hosts import Fleet

from waportd.fleet.chunks import Damaged
from waportd.fleet.directory import Directory
from waportd.fleet.engine import Row
from waportd.fleet.objects import ObjectMissing, Place
from waportd.fleet.s3_objects import S3Objects

PLACE = Place("8", 5)
ONE, TWO, MANIFEST = "1" * 64, "2" * 64, "manifest-" + "3" * 64


@pytest.fixture(params=["memory", "directory", "bucket", "host"])
async def store(request, tmp_path, config, monkeypatch):
    if request.param == "memory":
        yield Memory()
        return
    if request.param == "directory":
        Directory.create(tmp_path)
        yield Directory(tmp_path)
        return
    if request.param == "bucket":
        yield S3Objects(request.getfixturevalue("bucket_server").bucket(), KEY)
        return
    monkeypatch.setattr("waportd.api.server.IDLE_DRAIN_S", 0.05)
    fleet = Fleet(tmp_path, config)
    a, _ = await fleet.add("a"), await fleet.add("b")
    for user in ("7", "8", "A", "Bob", "a"):
        fleet.put(Row(user, 5000 + ord(user[0]), "a", 6 if user == "7" else 5))
    yield a.store_on("b")
    await fleet.close()


async def test_what_is_put_is_got_and_listed_with_its_size(store):
    await store.put(PLACE, ONE, b"one")
    await store.put(PLACE, MANIFEST, noise(300_000))
    assert await store.get(PLACE, ONE, 3) == b"one"
    assert await store.get(PLACE, MANIFEST, 300_000) == noise(300_000)
    assert await store.list(PLACE) == {ONE: 3, MANIFEST: 300_000}
    assert await store.tokens("8") == [5]


async def test_an_object_is_replaced(store):
    await store.put(PLACE, ONE, b"one")
    await store.put(PLACE, ONE, b"more")
    assert await store.get(PLACE, ONE, 10) == b"more"


async def test_an_object_that_is_empty_is_one(store):
    await store.put(PLACE, ONE, b"")
    assert await store.get(PLACE, ONE, 0) == b""


async def test_what_is_not_there_is_missing(store):
    with pytest.raises(ObjectMissing):
        await store.get(PLACE, ONE, 10)
    assert (await store.list(PLACE), await store.tokens("8")) == ({}, [])
    await store.delete(PLACE, [ONE])


async def test_what_is_deleted_is_gone_and_so_is_an_empty_place(store):
    await store.put(PLACE, ONE, b"one")
    await store.put(PLACE, TWO, b"two")
    await store.delete(PLACE, [ONE, "4" * 64])
    with pytest.raises(ObjectMissing):
        await store.get(PLACE, ONE, 10)
    assert await store.list(PLACE) == {TWO: 3}
    await store.delete(PLACE, [TWO])
    assert await store.tokens("8") == []


async def test_places_have_nothing_in_common(store):
    places = [Place("7", 6), PLACE, Place("A", 5), Place("a", 5), Place("Bob", 5)]
    for one in places:
        await store.put(one, ONE, f"{one}".encode())
    await store.delete(Place("7", 5), [ONE])
    for one in places:
        assert await store.get(one, ONE, 100) == f"{one}".encode()
    await store.delete(PLACE, [ONE])
    assert await store.list(PLACE) == {}
    for one in places[2:]:
        assert await store.get(one, ONE, 100) == f"{one}".encode()


async def test_an_object_that_is_too_long_is_damaged(store):
    await store.put(PLACE, ONE, noise(1000))
    with pytest.raises(Damaged):
        await store.get(PLACE, ONE, 999)
