"""``/``, ``/connect``, ``/assets/…``: the pages for people, from memory.

They hold only public content: a page gets its data from the API, with its visitor's rights.
"""

import functools
import gzip
import hashlib
import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from aiohttp import web

from waportd import extension
from waportd.api.accept import best_language, takes_gzip
from waportd.api.documents import written
from waportd.api.json_schema import Document, of, text
from waportd.api.operations import Answer, Operation, Scope
from waportd.api.parameters import Parameter
from waportd.api.problems import Handler
from waportd.api.return_to import RETURN_SIGNATURE, RETURN_TO, granted, is_among, origin_of, own_origin
from waportd.config import Connect
from waportd.errors import NotFound
from waportd.value_types import Kind

_WEB = Path(__file__).resolve().parent.parent / "web"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".zip": "application/zip",
}
_EXTENSIONS = "passkey-extensions.json"
_ARCHIVES = {
    "passkey-extension.zip": extension.Browser.CHROME,
    "passkey-extension-firefox.zip": extension.Browser.FIREFOX,
}
_DASHBOARD_LANGUAGES = {"en": "en", "pt": "pt-BR"}
"""Those that there is a file of words of, by the first part of their tags."""
_CONNECT_LANGUAGES = {**_DASHBOARD_LANGUAGES, "es": "es"}
_POLICY = "; ".join(
    ["default-src 'none'", "base-uri 'none'", "form-action 'none'"]
    + [f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")]
)
"""Nothing from other sites, nothing inline."""

_TEXT = Kind("a text", str)
_USER = Parameter[str | None]("user", _TEXT, "The user whose phone is linked. The page's script reads it.")


def _lang(languages: Mapping[str, str]) -> Parameter[str | None]:
    *others, last = (f"`{tag}`" for tag in languages.values())
    known = f"{', '.join(others)} or {last}"
    return Parameter("lang", _TEXT, f"{known}; without it, the browser's language.", example="pt-BR")


_DASHBOARD_LANG = _lang(_DASHBOARD_LANGUAGES)
_CONNECT_LANG = _lang(_CONNECT_LANGUAGES)
_ACCEPTED = Parameter[str | None]("Accept-Language", _TEXT, "The languages of the browser's user.", "header")
KNOWN = Parameter[str | None]("If-None-Match", _TEXT, "The answer that the caller has.", "header")
_NAME = Parameter[str](
    "name", _TEXT, "A file that the pages load.", "path", required=True, example="base.css"
)


class PasskeyExtension(Document):
    """A browser extension that signs in with a passkey."""

    id: Annotated[str, "Its id in Chromium."]
    url: Annotated[str, "Where to get it; relative to this daemon's address for its own one."]
    firefox: Annotated[str | None, "Where to get the one for Firefox."]
    own: Annotated[bool, "Whether it is waportd's own, which the page talks to over a port."]


class PasskeyExtensions(Document):
    """The extensions of the connect page."""

    extensions: Annotated[
        tuple[PasskeyExtension, ...], "Those that the connect page offers and uses, in this order."
    ]


_FILES = {kind: {} if "zip" in kind else text() for kind in _TYPES.values() if "json" not in kind}
UNCHANGED = Answer("the caller has this answer already")


def operations() -> list[Operation]:
    """Return the operations of this resource."""

    def page(path: str, handler: Handler, *parameters: Parameter[Any]) -> Operation:
        answers = {200: Answer("the page", others={"text/html": text()}), 304: UNCHANGED}
        return Operation("GET", path, handler, Scope.PUBLIC, answers, (*parameters, KNOWN), lenient=True)

    return [
        page("/", show_dashboard, _DASHBOARD_LANG, _ACCEPTED),
        page("/connect", show_connect, _USER, _CONNECT_LANG, RETURN_TO, RETURN_SIGNATURE, _ACCEPTED),
        Operation(
            "GET",
            "/assets/{name}",
            show_asset,
            Scope.PUBLIC,
            {
                200: Answer("the file", of(PasskeyExtensions), others=_FILES),
                304: UNCHANGED,
            },
            (_NAME, KNOWN),
            errors=(NotFound,),
        ),
    ]


class Embedders:
    """The web apps that may show the connect page in a frame, and that it may lead back to."""

    def __init__(self, origins: Iterable[str] = ("self",)) -> None:
        self.allow(origins)

    def allow(self, origins: Iterable[str]) -> None:
        """Replace the list: of origins, and ``self`` for our own. Empty: nobody."""
        self._origins = tuple(origins)
        named = ("'self'" if origin == "self" else origin for origin in self._origins)
        self.policy = " ".join(named) or "'none'"

    def include(self, request: web.Request, address: str) -> bool:
        """Return whether an address is at one of these origins."""
        origin = origin_of(address)
        return origin is not None and is_among(origin, self._origins, own_origin(request))


def embedders_of(request: web.Request) -> Embedders:
    """Return the application's embedders."""
    embedders: Embedders = request.app["embedders"]
    return embedders


async def show_dashboard(request: web.Request) -> web.Response:
    """Show the page of all users.

    It has buttons that delete, so no other page may embed it.
    """
    return _page(
        request, "dashboard.html", _language(request, _DASHBOARD_LANG, _DASHBOARD_LANGUAGES), "'none'"
    )


async def show_connect(request: web.Request) -> web.Response:
    """Show the page on which a user links a phone.

    Pages of `api.frame_ancestors` may embed it. It has a link back to the web app where the address has `return_to`: an
    address of the page's own site, or one that came with the connect link.
    """
    embedders = embedders_of(request)
    language = _language(request, _CONNECT_LANG, _CONNECT_LANGUAGES)
    address = granted(request, _USER.of(request))
    if address is not None and not embedders.include(request, address):
        address = None  # it is no longer configured
    return _page(request, "connect.html", language, embedders.policy, address)


async def show_asset(request: web.Request) -> web.Response:
    """Show a file that the pages load.

    `passkey-extensions.json` names the browser extensions that the connect page offers and uses to sign in with a passkey:
    waportd's own one first, then those of `connect.passkey_extensions`. `passkey-extension.zip` and, for Firefox,
    `passkey-extension-firefox.zip` are its own one.
    """
    name = _NAME.of(request)
    if name == _EXTENSIONS:
        return _file(request, name, _offered(request.app["supervisor"].connect))
    if name in _ARCHIVES:
        return _file(request, name, _archive(_ARCHIVES[name]))
    if name not in load() or name.endswith(".html"):
        raise NotFound(f"there is nothing at {request.path}", hint="the pages are at / and /connect")
    return _file(request, name, load()[name])


def _offered(config: Connect) -> bytes:
    own = []
    if config.own_passkey_extension:
        address, for_firefox = (f"assets/{name}" for name in _ARCHIVES)
        known = extension.chrome_id(extension.load())
        own = [PasskeyExtension(id=known, url=address, firefox=for_firefox, own=True)]
    others = [
        PasskeyExtension(id=known, url=address, firefox=None, own=False)
        for known, address in config.passkey_extensions
    ]
    return written(PasskeyExtensions(extensions=(*own, *others)))


@functools.cache
def _archive(browser: extension.Browser) -> bytes:
    return extension.archive(browser, extension.load())


def _page(
    request: web.Request, name: str, language: str, ancestors: str, return_to: str | None = None
) -> web.Response:
    back = "" if return_to is None else f' data-return-to="{html.escape(return_to)}"'
    # What the caller has given comes last: nothing is replaced in it.
    body = load()[name].replace(b"-texts.en.mjs", f"-texts.{language}.mjs".encode(), 1)
    body = body.replace(b'<html lang="en">', f'<html lang="{language}"{back}>'.encode(), 1)
    response = respond(request, "text/html", body, is_private=return_to is not None)
    response.headers["Vary"] = "Accept-Language, Accept-Encoding"
    response.headers["Content-Security-Policy"] = f"{_POLICY}; frame-ancestors {ancestors}"
    return response


def _file(request: web.Request, name: str, body: bytes) -> web.Response:
    return respond(request, _TYPES[Path(name).suffix], body)


def respond(request: web.Request, kind: str, body: bytes, *, is_private: bool = False) -> web.Response:
    """Return content of a media type: not again if the caller has it, and compressed if they take that.

    What is private, of one visitor, is not kept here.
    """
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {
        "ETag": etag,
        # Cached, but validated each time: a page and its scripts change together.
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        # The address of the connect page may carry its signature.
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Encoding",
    }
    if etag in (KNOWN.of(request) or ""):
        return web.Response(status=304, headers=headers)
    is_text = not kind.endswith("zip")
    if is_text and not kind.endswith("json") and takes_gzip(request):
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body) if is_private else _compressed(body)
    return web.Response(body=body, headers=headers, content_type=kind, charset="utf-8" if is_text else None)


@functools.lru_cache(maxsize=128)
def _compressed(body: bytes) -> bytes:
    """Return a file as it is sent: a third of its size, which is a second of a slow phone's network. No secret is in it."""
    return gzip.compress(body, mtime=0)


def _language(request: web.Request, lang: Parameter[str | None], languages: Mapping[str, str]) -> str:
    """Return the language of a page that the browser's user wants most."""
    return best_language(lang.of(request) or _ACCEPTED.of(request) or "", languages, "en")


@functools.cache
def load() -> dict[str, bytes]:
    """Return all files by name, read once before the first call, so that an upgrade mixes nothing."""
    extension.load()
    return {path.name: path.read_bytes() for path in sorted(_WEB.iterdir()) if path.suffix in _TYPES}
