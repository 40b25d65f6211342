"""The pages as a browser gets them, and what it may not call for a page of another site."""

import json
import re

import pytest

from waportd import extension
from waportd.api import pages
from waportd.api.operations import Scope
from waportd.api.server import operations
from waportd.config import parse
from waportd.errors import ConfigError
from waportd.extension import Browser

POLICY = "Content-Security-Policy"


async def get(api, path, expected=200, **headers):
    async with api.get(path, headers=headers) as answer:
        assert answer.status == expected, await answer.text()
        return answer.headers, await answer.text()


@pytest.mark.parametrize("path", ["/", "/connect?user=1"])
async def test_a_page_loads_nothing_but_its_own_files_and_all_of_them_exist(api, path):
    headers, page = await get(api, path)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers[POLICY]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script(?! type=\"module\" src=)| style=| on\w+=", page)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    for name in loaded:
        assert name.startswith("assets/")
        headers, body = await get(api, f"/{name}")
        assert headers["X-Content-Type-Options"] == "nosniff"
        for module in re.findall(r"(?:from |import\()'\./([^']+\.mjs)'", body):
            await get(api, f"/assets/{module}")


async def test_no_file_is_served_that_no_page_loads(api):
    served = set(pages.load())
    loaded = set()
    shown = [
        (await get(api, path))[1]
        for path in ("/?lang=pt-BR", "/connect?lang=pt-BR", "/connect?lang=es", "/docs")
    ]
    for text in [*shown, *(content.decode() for content in pages.load().values())]:
        loaded |= set(re.findall(r"[\"']assets/([^\"']+)[\"']", text)) | set(
            re.findall(r"(?:from |import\()'\./([^']+\.mjs)'", text)
        )
    made = {"passkey-extensions.json"}  # of the configuration
    assert served | made == loaded | {"connect.html", "dashboard.html"}


def test_no_page_makes_markup_or_code_of_a_text():
    """Names of accounts and lines of logs are anybody's."""
    makers = re.compile(
        r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|setHTML\w*|createContextualFragment|srcdoc"
        r"|parseFromString(?!\(await answer\.text\(\), 'image/svg\+xml'\))|document\.write\w*|eval|Function)\b|setAttribute\('(?:on|style)|set(?:Timeout|Interval)\(['\"`]|javascript:"
    )
    for name, content in pages.load().items():
        assert not makers.findall(content.decode()), name
    assert makers.search("x.innerHTML = y")


async def test_what_a_browser_has_already_is_not_sent_again(api):
    headers, _ = await get(api, "/assets/base.css")
    assert headers["Cache-Control"] == "no-cache"
    again, body = await get(api, "/assets/base.css", 304, **{"If-None-Match": f'W/"x", {headers["ETag"]}'})
    assert body == ""
    assert again["ETag"] == headers["ETag"]


@pytest.mark.parametrize("path", ["/", "/connect", "/assets/base.css", "/assets/connect.mjs"])
@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, br", False),
        ("xgzip", False),
    ],
)
async def test_a_browser_that_takes_gzip_gets_less_than_half_of_the_bytes(api, path, accepted, is_compressed):
    async with api.get(path, headers={"Accept-Encoding": "identity"}) as plain:
        whole = await plain.read()
        assert "Content-Encoding" not in plain.headers
    async with api.get(path, headers={"Accept-Encoding": accepted}) as answer:
        assert (answer.headers.get("Content-Encoding") == "gzip") is is_compressed
        assert "Accept-Encoding" in answer.headers["Vary"]
        assert await answer.read() == whole
        size = int(answer.headers["Content-Length"])
    assert size < len(whole) / 2 if is_compressed else size == len(whole)
    known = {"Accept-Encoding": accepted, "If-None-Match": answer.headers["ETag"]}
    async with api.get(path, headers=known) as again:
        assert again.status == 304
        assert await again.read() == b""


@pytest.mark.parametrize("name", ["connect.html", "nothing.mjs", "..%2Fdaemon.py"])
async def test_nothing_else_is_an_asset(api, name):
    await get(api, f"/assets/{name}", 404)


@pytest.mark.parametrize(
    ("query", "accepted", "language"),
    [
        ("", "pt-BR,pt;q=0.9,en;q=0.8", "pt-BR"),
        ("", "de-DE,de;q=0.9,en;q=0.3,pt;q=0.5", "pt-BR"),
        ("", "en-GB,en;q=0.9,pt;q=0.8", "en"),
        ("", "de", "en"),
        ("", "pt;q=x, ;;,", "pt-BR"),
        ("&lang=pt-BR", "en", "pt-BR"),
        ("&lang=pt", "en", "pt-BR"),
        ("&lang=en", "pt-BR", "en"),
        ("&lang=xx", "pt-BR", "en"),
        ("", "es-MX,es;q=0.9,en;q=0.8", "es"),
        ("&lang=es", "pt-BR", "es"),
        ("&lang=es-419", "", "es"),
    ],
)
async def test_the_pages_speak_the_language_of_who_asks(api, query, accepted, language):
    headers, page = await get(api, f"/connect?user=1{query}", **{"Accept-Language": accepted})
    assert f'<html lang="{language}">' in page
    assert re.findall(r"connect-texts\.([^.]+)\.mjs", page) == [language]
    assert headers["Vary"] == "Accept-Language, Accept-Encoding"
    # Of the dashboard there is no Spanish one.
    own = "en" if language == "es" else language
    headers, page = await get(api, f"/?{query}", **{"Accept-Language": accepted})
    assert f'<html lang="{own}">' in page
    assert re.findall(r"dashboard-texts\.([^.]+)\.mjs", page) == [own]
    assert headers["Vary"] == "Accept-Language, Accept-Encoding"


async def test_nobody_frames_the_dashboard_and_only_our_own_pages_the_connect_page(api):
    dashboard, _ = await get(api, "/")
    assert dashboard[POLICY].endswith("; frame-ancestors 'none'")
    connect, _ = await get(api, "/connect")
    assert connect[POLICY].endswith("; frame-ancestors 'self'")


def test_who_frames_the_connect_page_is_configured():
    text = "api: {frame_ancestors: [self, https://app.example.com:8443, 'https://*.example.org']}"
    origins = parse(text, "config").api.frame_ancestors
    assert pages.Embedders(origins).policy == "'self' https://app.example.com:8443 https://*.example.org"
    assert pages.Embedders([]).policy == "'none'"


@pytest.mark.parametrize(
    "origin",
    ["*", "'self'", "app.example.com", "https://a.b/path", "https://a; script-src *", "https://", "none"],
)
def test_what_is_no_origin_does_not_get_into_the_policy(origin):
    with pytest.raises(ConfigError):
        parse(f'api: {{frame_ancestors: ["{origin}"]}}', "config")


EXTENSIONS = "/assets/passkey-extensions.json"


async def test_the_extension_is_offered_and_is_what_lies_in_its_folder(api):
    headers, text = await get(api, EXTENSIONS)
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    [own] = json.loads(text)["extensions"]
    assert own["own"] is True
    assert own["id"] == extension.chrome_id(extension.load())
    for browser, name in ((Browser.CHROME, own["url"]), (Browser.FIREFOX, own["firefox"])):
        async with api.get(f"/{name}") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/zip"
            assert await answer.read() == extension.archive(browser, extension.load())
            seen = answer.headers["ETag"]
        await get(api, f"/{name}", 304, **{"If-None-Match": seen})


async def test_other_extensions_come_after_it_and_it_can_be_left_out(api, supervisor):
    before, _ = await get(api, EXTENSIONS)
    other, third = "a" * 32, "b" * 32
    text = (
        f"connect: {{passkey_extensions: {{{third}: https://store.example/c, {other}: 'http://a.example/'}}}}"
    )
    await supervisor.reconfigure(parse(text, "config"))
    after, answer = await get(api, EXTENSIONS)
    own, *others = json.loads(answer)["extensions"]
    assert own["own"]
    assert others == [
        {"id": third, "url": "https://store.example/c", "firefox": None, "own": False},
        {"id": other, "url": "http://a.example/", "firefox": None, "own": False},
    ]
    assert after["ETag"] != before["ETag"]
    await supervisor.reconfigure(parse("connect: {own_passkey_extension: false}", "config"))
    _, answer = await get(api, EXTENSIONS)
    assert json.loads(answer) == {"extensions": []}


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("over", ["api", "tcp"])
async def test_a_page_of_another_site_may_not_call(api, tcp, over, access, store, headers):
    """None of the calls, whatever a browser or a proxy adds to let them in."""
    caller = {"api": api, "tcp": tcp}[over]
    _, token = await access.tokens.create("of a proxy", None)
    tcp.headers["Authorization"] = f"Bearer {token}"
    calls = [one for one in operations() if one.scope is not Scope.PUBLIC]
    assert len(calls) > 25
    for one in calls:
        path = one.path.format(user="1", port=5001, id="0" * 12, number="1", host="a")
        query = {"user_id": "1"} if path.startswith("/api/") else {}
        async with caller.request(one.method, path, headers=headers, params=query) as answer:
            assert answer.status == 403, f"{one.method} {one.path}"
            assert "another site" in await answer.text()
    assert not store.rows


@pytest.mark.parametrize("headers", FOREIGN)
async def test_the_pages_may_be_visited_from_anywhere(api, headers):
    await get(api, "/", **headers)
    await get(api, "/connect?user=1", **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://app.example"},
        {"Origin": "http://localhost"},
        {"Origin": "https://app.example", "X-Forwarded-Host": "app.example"},
    ],
)
async def test_our_own_pages_and_programs_may(api, headers):
    async with api.put("/v1/users/1?wait=none", headers=headers) as answer:
        assert answer.status == 201
