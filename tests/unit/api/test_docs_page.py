"""The page of the API, which is made of its OpenAPI document."""

import html
import re

from contract import document

from waportd.api import docs_page


async def get(api, path="/docs", expected=200, **headers):
    async with api.get(path, headers=headers) as answer:
        assert answer.status == expected
        return answer.headers, await answer.text()


async def test_it_has_each_call_with_its_parameters_and_each_document(api):
    _, page = await get(api)
    for path, methods in document()["paths"].items():
        for method, call in methods.items():
            begin = page.index(f'<article id="{call["operationId"]}">')
            shown = page[begin : page.index("</article>", begin)]
            assert f"{method.upper()}</span> <code>{html.escape(path)}</code>" in shown
            assert all(f"<code>{one['name']}</code>" in shown for one in call.get("parameters", ()))
            assert all(f"<td>{status}</td>" in shown for status in call["responses"])
    assert all(f'id="{name.lower()}-document"' in page for name in document()["components"]["schemas"])


async def test_each_link_within_it_leads_somewhere(api):
    _, page = await get(api)
    names = re.findall(r"\bid=\"?([\w-]+)", page)
    assert len(names) == len(set(names))
    links = re.findall(r'href="#([^"]+)"', page)
    assert len(links) > 100
    assert set(links) <= set(names)


async def test_it_has_no_script_and_loads_nothing_from_elsewhere(api):
    headers, page = await get(api)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script|<style| style=| on\w+=|javascript:", page)
    loaded = re.findall(r'<(?:link|img)[^>]* (?:href|src)="([^"]+)"', page)
    assert {"assets/base.css", "assets/docs.css", "assets/icon.svg"} == set(loaded)
    for name in loaded:
        await get(api, f"/{name}")


async def test_what_a_browser_has_already_is_not_sent_again(api):
    headers, _ = await get(api)
    assert headers["Cache-Control"] == "no-cache"
    _, body = await get(api, expected=304, **{"If-None-Match": headers["ETag"]})
    assert body == ""


def test_what_is_described_makes_no_markup():
    api = document()
    api = {**api, "info": {**api["info"], "description": "<b>&\n\n- `<i>`\n- **bold**"}}
    page = docs_page.written(api)
    assert "<p>&lt;b&gt;&amp;</p>" in page
    assert "<ul><li><code>&lt;i&gt;</code>\n</li><li><strong>bold</strong></li></ul>" in page


async def test_who_finds_nothing_is_sent_to_it(api):
    async with api.get("/nothing") as answer:
        assert answer.status == 404
        hint = (await answer.json())["hint"]
    assert "/openapi.json" in hint
    assert "/docs" in hint
