"""What is asked again and again is answered from bytes, and never with what does not hold any more."""

import asyncio
import dataclasses
import email.utils
import socket
import time

import aiohttp
import pytest
from support import BASE, access_for, until

from waportd.api import legacy, qr
from waportd.api.server import ApiServer, make_app
from waportd.errors import UnknownUser
from waportd.model import Port, User
from waportd.runtime import NEVER
from waportd.shortcuts import ALL

ONE = User("1")
PORT = Port(BASE)
TARGETS = ("/v1/users/1/qr", "/api/qr?user_id=1")


@pytest.fixture
async def code(api, systemd):
    """A user whose server shows a code."""
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    async with api.put("/v1/users/1", params={"wait": "qr"}) as answer:
        assert answer.status == 201


@pytest.fixture
def worked_out(monkeypatch):
    """Count the answers that are made again."""
    made = []
    for module in (qr, legacy):
        original = module.qr
        monkeypatch.setattr(module, "qr", lambda now, of=original: made.append(now) or of(now))
    return made


async def get(api, target, **headers):
    async with api.get(target, headers=headers) as answer:
        kept = {name.lower(): value for name, value in answer.headers.items() if name != "Date"}
        return answer.status, kept, await answer.read()


@pytest.mark.parametrize("target", TARGETS)
async def test_the_second_answer_is_the_first_one_and_costs_no_work(api, code, worked_out, target):
    first = await get(api, target)
    assert len(worked_out) == 1
    assert await get(api, target) == first
    assert len(worked_out) == 1


@pytest.mark.parametrize("shortcuts", [dataclasses.replace(ALL, response_cache=False)], ids=["off"])
async def test_where_it_is_turned_off_each_answer_is_made_again(api, code, worked_out):
    first = await get(api, TARGETS[0])
    assert await get(api, TARGETS[0]) == first
    assert len(worked_out) == 2


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_the_connection_ends_where_that_is_asked_for(api, code, worked_out, version):
    await get(api, TARGETS[0])
    path = api.connector.path
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(
        b"GET %s HTTP/%s\r\nHost: x\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        % (TARGETS[0].encode(), version)
    )
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/%s 200 OK\r\n" % version)
    assert f"Content-Length: {len(body)}".encode() in head.splitlines()
    assert (b"Connection: close" in head) == (version == b"1.1")
    [date] = [line for line in head.splitlines() if line.startswith(b"Date: ")]
    assert abs(email.utils.parsedate_to_datetime(date[6:].decode()).timestamp() - time.time()) < 10
    # The older version is worked out again each time.
    assert len(worked_out) == (1 if version == b"1.1" else 2)


@pytest.mark.also_without("response_cache")
@pytest.mark.parametrize("target", TARGETS)
async def test_a_change_is_sent_at_once(api, code, supervisor, systemd, target):
    await get(api, target)
    systemd.servers[PORT].show_code()
    await until(supervisor, ONE, lambda instance: instance.session.attempt == 2)
    assert b"ref2," in (await get(api, target))[2]


@pytest.mark.also_without("response_cache")
@pytest.mark.parametrize("target", TARGETS)
async def test_a_code_is_sent_until_it_expires(api, code, supervisor, systemd, target):
    systemd.servers[PORT].show_code(lifetime=0.4)
    instance = await until(supervisor, ONE, lambda instance: instance.session.attempt == 2)
    while b"ref2," in (await get(api, target))[2]:
        assert time.time() < instance.session.expires_at + 0.1
        await asyncio.sleep(0.02)
    assert time.time() >= instance.session.expires_at
    assert b"generating" in (await get(api, target))[2]


@pytest.mark.also_without("response_cache")
@pytest.mark.parametrize("target", TARGETS)
async def test_each_question_counts(api, code, supervisor, systemd, target):
    await get(api, target)
    systemd.servers[PORT].polls = 0
    runtime = supervisor.runtimes[ONE]
    runtime.relayed_at = runtime.used_at = NEVER
    await get(api, target)
    assert NEVER not in {runtime.relayed_at, runtime.used_at}


@pytest.mark.also_without("response_cache")
@pytest.mark.parametrize("target", TARGETS)
async def test_of_a_deleted_user_nothing_is_sent(api, code, supervisor, monkeypatch, target):
    async def assign(user):
        raise UnknownUser(f"{user} is gone")

    assert b"ref1," in (await get(api, target))[2]
    monkeypatch.setattr(supervisor, "assign", assign)
    supervisor.registry.remove(ONE)
    assert b"is gone" in (await get(api, target))[2]


async def test_a_condition_is_kept_and_a_long_poll_is_not_answered_with_it(api, code):
    _, headers, _ = await get(api, TARGETS[0])
    assert (await get(api, TARGETS[0], **{"If-None-Match": headers["etag"]}))[0] == 304
    began = time.monotonic()
    for _ in range(2):
        await get(api, TARGETS[0] + "?timeout=0.2")
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("header", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_page_of_another_site_is_refused_what_is_kept(api, code, target, header):
    assert (await get(api, target))[0] == 200
    assert (await get(api, target, **header))[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_another_method_is_another_question(api, code, method):
    await get(api, TARGETS[0])
    async with api.request(method, TARGETS[0]) as answer:
        assert answer.status == 405


async def test_who_may_not_call_any_more_is_refused_and_an_ending_server_says_so(supervisor, code, tmp_path):
    path = str(tmp_path / "second.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        server = ApiServer(make_app(supervisor, access := access_for()))
        await server.start([listener.dup()])
        async with aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(path)) as client:
            for _ in range(2):
                assert (await get(client, TARGETS[0]))[0] == 200
            access.permits = lambda uid: False
            assert (await get(client, TARGETS[0]))[0] == 403
            del access.permits
            assert "connection" not in (await get(client, TARGETS[0]))[1]
            draining = asyncio.create_task(server.drain())
            await asyncio.sleep(0.05)
            assert (await get(client, TARGETS[0]))[1]["connection"] == "close"
            await draining
        await server.close()
