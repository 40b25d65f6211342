"""The website of the documents: all of its links lead somewhere, and it loads nothing from elsewhere."""

import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "dist/site"


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag in {"script", "img", "iframe"} and values.get("src"):
            self.loads.append(values["src"])
        elif tag == "link" and values.get("rel") != "canonical":
            self.loads.append(values["href"])


@pytest.fixture(scope="module")
def pages():
    built = subprocess.run([ROOT / "tools/website"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    # A web server shows 404.html in place of any page: its links begin at the root.
    return {path: Page(path.read_text()) for path in SITE.rglob("*.html") if path.name != "404.html"}


def test_every_link_leads_somewhere(pages):
    assert len(pages) > 25
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else {""}
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                dead.append(f"{path.relative_to(SITE)}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(pages):
    assert [load for page in pages.values() for load in page.loads if "//" in load] == []


def test_every_document_is_in_the_navigation_or_linked(pages):
    documents = {path.with_suffix(".html").name for path in (ROOT / "docs").rglob("*.md")} - {"README.html"}
    linked = {Path(urlsplit(link).path).name for page in pages.values() for link in page.links}
    assert documents <= linked
