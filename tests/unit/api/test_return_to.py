"""Where the connect page leads back to: to the web apps that are configured, and to no other place."""

import html
import re
import urllib.parse

import pytest

from waportd.api import pages
from waportd.api.return_to import is_among, origin_of

APP = "https://app.example.com"


@pytest.fixture
def embedders(server):
    """Those of the running API, which a test may replace."""
    return server._app["embedders"]  # noqa: SLF001


@pytest.fixture
def configured(embedders):
    embedders.allow(["self", APP])


async def make(client, address, expected=201, **headers):
    async with client.post(
        "/v1/users/2/connect-link", json={"return_to": address}, headers=headers
    ) as answer:
        assert answer.status == expected, await answer.text()
        return await answer.json()


async def leads_to(client, path):
    """Return where the page of a link leads back to; None for nowhere."""
    async with client.get(path) as answer:
        assert answer.status == 200
        [tag] = re.findall(r"<html [^>]*>", await answer.text())
    [address] = re.findall(r' data-return-to="([^"]*)"', tag) or [None]
    return address and html.unescape(address)


def changed(path, **query):
    """Return a link with other values in its query; None takes one away."""
    where, _, text = path.partition("?")
    values = dict(urllib.parse.parse_qsl(text)) | query
    left = {name: value for name, value in values.items() if value is not None}
    return f"{where}?{urllib.parse.urlencode(left)}"


@pytest.mark.usefixtures("configured")
async def test_a_link_leads_back_to_a_configured_web_app_also_after_its_end(api, tcp, access, monkeypatch):
    address = f'{APP}/settings?from="whatsapp"&<b>&file=-texts.en.mjs#top'
    link = await make(api, address)
    for client in (api, tcp):
        assert await leads_to(client, link["path"]) == address
        assert await leads_to(client, f"{link['path']}&lang=pt-BR") == address
    expires = int(dict(urllib.parse.parse_qsl(link["path"]))["expires"])
    monkeypatch.setattr("waportd.connect_links.time.time", lambda: expires + 60.0)
    assert await leads_to(tcp, link["path"]) == address
    # Links that are taken back lead nowhere.
    await access.links.revoke_all()
    assert await leads_to(tcp, link["path"]) is None


@pytest.mark.usefixtures("configured")
async def test_what_somebody_has_written_into_a_link_leads_nowhere(api, tcp):
    link = (await make(api, f"{APP}/settings"))["path"]
    other = (await make(api, f"{APP}/elsewhere"))["path"]
    signature = dict(urllib.parse.parse_qsl(other))["return_signature"]
    for forged in (
        changed(link, return_to="https://evil.example/"),
        changed(link, return_to=f"{APP}/logout"),
        changed(link, return_signature=None),
        changed(link, return_signature=signature),
        changed(link, return_signature="é"),
        changed(link, user="3"),
        changed(link, user=None),
        changed(link, expires="9999999999"),
        changed(link, expires=None),
    ):
        assert await leads_to(tcp, forged) is None, forged


@pytest.mark.usefixtures("configured")
async def test_an_origin_that_is_taken_from_the_configuration_is_left_out(api, embedders):
    link = await make(api, f"{APP}/settings")
    embedders.allow(["self"])
    assert await leads_to(api, link["path"]) is None


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://evil.example/", "https://evil.example"),
        ("http://app.example.com/", "http://app.example.com"),
        ("https://app.example.com:8443/", "https://app.example.com:8443"),
        ("https://app.example.com.evil.example/", "https://app.example.com.evil.example"),
        ("https://app.example.com:80/", "https://app.example.com:80"),
        ("https://xn--pp-9ja.example.com/", "https://xn--pp-9ja.example.com"),
        ("https://app.example.com-evil.example/", "https://app.example.com-evil.example"),
        ("https://example.com/app.example.com/", "https://example.com"),
    ],
)
async def test_another_origin_is_refused_with_the_key_that_would_allow_it(api, address, origin):
    refused = await make(api, f"{address}secret", 400)
    assert refused["detail"] == f"return_to: {origin} is not among the origins of api.frame_ancestors"
    assert f"add {origin} to `api.frame_ancestors`" in refused["hint"]
    assert "secret" not in str(refused)


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    "address",
    [
        "",
        "/settings",
        "//app.example.com/",
        "javascript:alert(1)",
        "app.example.com",
        "https://app.example.com@evil.example/",
        "https://app.example.com\\@evil.example/",
        "https://user:word@app.example.com/",
        "https://app.example.com/a b",
        "https://app.example.com/\n",
        "https://app.example.com/\r\nX: y",
        " https://app.example.com/",
        "\thttps://app.example.com/",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "blob:https://app.example.com/1",
        "https:app.example.com",
        "https:/app.example.com/",
        "https:///app.example.com/",
        "https:\\\\app.example.com/",
        "https://app.example.com\\.evil.example/",
        "https://app.example.com./",
        "https://app.example.com.:443/",
        "https://.app.example.com/",
        "https://app.example.com:/",
        "https://app.example.com:443@evil.example/",
        "https://app.example.com%2eevil.example/",
        "https://app.example.com%00.evil.example/",
        "https://app\u3002example.com/",
        "https://\u0430pp.example.com/",
        "https://app.example.com/é",
        f"https://app.example.com/{'a' * 1000}",
        7,
        None,
    ],
)
async def test_what_is_no_address_is_refused(api, address):
    refused = await make(api, address, 400)
    assert "an http or https URL" in refused["detail"]


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    "address",
    [
        "HTTPS://APP.EXAMPLE.COM/x",
        "https://app.example.com:443/x",
        "https://app.example.com?to=//evil.example",
        "https://app.example.com#@evil.example/",
        "https://app.example.com/javascript:alert(1)//\\evil.example",
    ],
)
async def test_what_a_browser_takes_for_the_same_origin_is_led_to_as_it_is(api, address):
    link = await make(api, address)
    assert await leads_to(api, link["path"]) == address


@pytest.mark.parametrize(
    "configured", [f"{APP}/settings", f"{APP}/", f"{APP}:443", "HTTPS://APP.example.com"]
)
def test_an_origin_is_configured_with_a_path_or_without(configured):
    assert is_among(origin_of(f"{APP}/x"), [configured], None)
    assert not is_among("https://evil.example", [configured], None)


async def test_its_own_origin_is_the_one_at_which_people_see_it(api, tcp, server, access):
    _, token = await access.tokens.create("web app", None)
    show = {"Authorization": f"Bearer {token}"}
    link = await make(tcp, f"{server.url}/settings", **show)
    assert await leads_to(tcp, link["path"]) == f"{server.url}/settings"
    # Nobody sees it at the unix socket.
    assert "public_url" in (await make(api, f"{server.url}/settings", 400))["hint"]
    access.links.public_url = "https://app.example.com/whatsapp"
    link = await make(api, f"{APP}/settings")
    assert await leads_to(api, link["path"]) == f"{APP}/settings"
    await make(tcp, f"{server.url}/settings", 400, **show)


def test_an_origin_is_compared_as_browsers_write_it():
    assert origin_of("HTTPS://App.Example.com:443/x?y#z") == "https://app.example.com"
    assert origin_of("http://app.example.com:80") == "http://app.example.com"
    assert origin_of("http://app.example.com:443/") == "http://app.example.com:443"
    for none in (
        "",
        "ftp://app.example.com/",
        "https://[::1]/",
        "https://a@b/",
        "https://a\\b/",
        "x https://a/",
    ):
        assert origin_of(none) is None, none


@pytest.mark.parametrize(
    ("origin", "is_one"),
    [
        ("https://a.example.org", True),
        ("https://b.a.example.org", True),
        ("https://example.org", False),
        ("https://badexample.org", False),
        ("https://a.example.org.evil.example", False),
        ("http://a.example.org", False),
        ("https://a.example.org:8443", False),
        ("https://app.example.com:8443", True),
        ("https://app.example.com", False),
        ("http://here", False),
    ],
)
def test_a_name_with_a_star_stands_for_all_below_it(origin, is_one):
    assert (
        is_among(origin, ["https://*.example.org", "https://App.example.com:8443"], "http://here") is is_one
    )


def test_self_is_our_own_origin_where_it_is_known():
    assert is_among("http://here", ["self"], "http://here")
    assert not is_among("http://here", ["self"], None)
    assert not is_among("http://here", [], "http://here")


async def test_a_page_with_an_address_of_one_visitor_is_kept_nowhere(api, embedders):
    embedders.allow([APP])
    before = pages._compressed.cache_info().currsize  # noqa: SLF001
    for step in range(3):
        link = await make(api, f"{APP}/{step}")
        async with api.get(link["path"], headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert f"{APP}/{step}" in await answer.text()
    assert pages._compressed.cache_info().currsize == before  # noqa: SLF001
