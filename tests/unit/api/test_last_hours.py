"""``/v1/history``: columns of the same length, as far back as is asked for, to those who may read."""

import datetime as dt

import pytest

from waportd.history import FIGURES
from waportd.model import User
from waportd.tokens import Kind


async def read(api, query=""):
    async with api.get(f"/v1/history{query}") as answer:
        assert answer.status == 200
        return await answer.json()


async def test_nothing_is_there_before_the_first_sample(api):
    history = await read(api)
    assert history["times"] == history["linked"] == history["load"] == []
    assert (history["step_s"], history["cpus"] > 0, history["memory_total"] > 0) == (60, True, True)


async def test_each_figure_has_an_entry_for_each_time(api, supervisor):
    await supervisor.ensure(User("1"))
    for _ in range(3):
        await supervisor.history.sample()
    history = await read(api, "?hours=1")
    assert {name: len(history[name]) for name in FIGURES} == dict.fromkeys(FIGURES, 3)
    assert history["times"][0] == history["since"]
    first, second, third = map(dt.datetime.fromisoformat, history["times"])
    assert second - first == third - second == dt.timedelta(seconds=60)
    assert history["servers_memory"] == [64 << 20] * 3
    assert history["servers_cpu"][0] is None
    assert sum(history[group][-1] for group in ("linked", "waiting", "working", "trouble", "idle")) == 1
    # Whole numbers are written as such.
    assert isinstance(history["delivered"][0], int)


@pytest.mark.parametrize("hours", ["0", "25", "1.5", "x", ""])
async def test_hours_that_are_not_kept_are_refused(api, hours):
    async with api.get(f"/v1/history?hours={hours}") as answer:
        assert answer.status == 400
        assert "1 to 24" in (await answer.json())["hint"]


async def test_who_may_read_all_documents_may_read_it(tcp, access):
    for scope, status in ((Kind.ADMIN, 200), (Kind.READ, 200), (Kind.METRICS, 403), (User("1"), 403)):
        user, kind = (None, scope) if isinstance(scope, Kind) else (scope, None)
        _, secret = await access.tokens.create("t", user, kind)
        async with tcp.get("/v1/history", headers={"Authorization": f"Bearer {secret}"}) as answer:
            assert answer.status == status, scope
    async with tcp.get("/v1/history") as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    ("accepted", "encoding"), [("gzip, deflate", "gzip"), ("gzip;q=0", None), ("", None)]
)
async def test_who_takes_it_compressed_gets_it_compressed(api, supervisor, accepted, encoding):
    for _ in range(60):
        await supervisor.history.sample()
    for method in ("GET", "HEAD"):
        async with api.request(method, "/v1/history", headers={"Accept-Encoding": accepted}) as answer:
            assert answer.headers.get("Content-Encoding") == encoding
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert (int(answer.headers["Content-Length"]) < 2000) is (encoding == "gzip")
            if method == "GET":
                assert len((await answer.json())["times"]) == 60
