"""The browser extension that signs in with a person's passkey: its folder, and archives of it for browsers and stores.

Run as a program, it writes the archives for the stores: ``python3 -m waportd.extension DIRECTORY``.
"""

import base64
import enum
import functools
import hashlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from waportd.config import installed_below

_MANIFEST: Final = "manifest.json"
_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that an archive can hold."""
_MODE: Final = 0o100644 << 16
_UNIX: Final = 3


class Browser(enum.StrEnum):
    """Which browsers an archive is for."""

    CHROME = "chrome"
    FIREFOX = "firefox"


def folder() -> Path:
    """Return where the extension lies: in a checkout, or installed."""
    in_checkout = Path(__file__).resolve().parent.parent / "extension"
    return (
        in_checkout if (in_checkout / _MANIFEST).exists() else installed_below() / "share/waportd/extension"
    )


@functools.cache
def load() -> Mapping[str, bytes]:
    """Return all files by their path in the folder, read once before the first call."""
    return _files(folder())


def archive(browser: Browser, files: Mapping[str, bytes], *, for_store: bool = False) -> bytes:
    """Return the extension as a zip file: the same bytes for the same files, wherever and whenever it is made.

    Files in the folder of a browser replace those for all. A store gives a new extension its key, and
    accepts none that has one (https://developer.chrome.com/docs/extensions/reference/manifest/key).
    """
    import zipfile  # noqa: PLC0415  # 10 ms of each start, and hardly ever needed

    own, others = f"{browser}/", tuple(f"{other}/" for other in Browser)
    chosen = {name: content for name, content in files.items() if not name.startswith((*others, "README"))}
    chosen |= {name.removeprefix(own): content for name, content in files.items() if name.startswith(own)}
    if for_store:
        manifest: dict[str, Any] = json.loads(chosen[_MANIFEST])
        manifest.pop("key", None)
        chosen[_MANIFEST] = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name in sorted(chosen):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = _UNIX, _MODE
            # Not compressed: each release of zlib does that in its own way.
            file.writestr(entry, chosen[name], zipfile.ZIP_STORED)
    return packed.getvalue()


def chrome_id(files: Mapping[str, bytes]) -> str:
    """Return the id that Chromium gives the extension: 128 bits of its key's hash, as letters from a to p."""
    key = base64.b64decode(json.loads(files[_MANIFEST])["key"])
    return (
        hashlib.sha256(key).hexdigest()[:32].translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))
    )


def _files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


def main(target: Path) -> None:
    """Write the archives for the stores into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    for browser in Browser:
        path = target / f"waportd-passkey-{browser}.zip"
        path.write_bytes(archive(browser, load(), for_store=True))
        print(path)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
