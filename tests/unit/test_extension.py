"""The browser extension as a folder and as archives."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from waportd import extension
from waportd.extension import Browser

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "extension"


def unpacked(packed):
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def manifest(browser, **options):
    return json.loads(unpacked(extension.archive(browser, extension.load(), **options))["manifest.json"])


def archives(folder, **options):
    """Return the archives that another process makes of a folder of its own, as bytes by name."""
    target = folder / "build"
    subprocess.run([sys.executable, "-m", "waportd.extension", target], cwd=folder, check=True, **options)
    return {path.name: path.read_bytes() for path in target.iterdir()}


def test_the_same_files_are_the_same_bytes_wherever_and_whenever(tmp_path):
    made = []
    for name, umask, when, zone in (
        ("a", 0o022, 1_000_000_000, "UTC"),
        ("b b", 0o077, 1_700_000_000, "Asia/Kathmandu"),
    ):
        copy = tmp_path / name
        shutil.copytree(ROOT / "waportd", copy / "waportd", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "server", copy / "server")
        shutil.copytree(FOLDER, copy / "extension")
        for path in (copy / "extension").rglob("*"):
            path.chmod(0o777 & ~umask)
            os.utime(path, (when, when))
        made.append(
            archives(copy, umask=umask, env={**os.environ, "TZ": zone, "PYTHONDONTWRITEBYTECODE": "1"})
        )
    assert made[0] == made[1]
    assert sorted(made[0]) == ["waportd-passkey-chrome.zip", "waportd-passkey-firefox.zip"]
    (tmp_path / "a/extension/card.js").write_text("// another one\n", encoding="utf-8")
    assert archives(tmp_path / "a") != made[1]


@pytest.mark.parametrize("browser", Browser)
def test_an_archive_holds_all_that_its_manifest_names_and_nothing_else(browser):
    files = unpacked(extension.archive(browser, extension.load()))
    shown = json.loads(files["manifest.json"])
    background = shown["background"]
    named = {"manifest.json", *background.get("scripts", [background.get("service_worker")])}
    named |= {name for script in shown["content_scripts"] for name in script["js"]}
    named |= set(shown["icons"].values())
    named |= {f"_locales/{language}/messages.json" for language in ("en", "es", "pt_BR")}
    # What a script loads by its name.
    for name in [name for name in named if name.endswith(".js")]:
        named |= {one for one in re.findall(r"files: \['([^']+)'\]", files[name].decode()) if one in files}
    assert set(files) == named
    assert ("page.js" in files) == (browser is Browser.FIREFOX)


def test_the_two_manifests_differ_in_what_the_browsers_differ_in_only():
    chrome, firefox = manifest(Browser.CHROME), manifest(Browser.FIREFOX)
    assert {key for key in {*chrome, *firefox} if chrome.get(key) != firefox.get(key)} == {
        *("permissions", "background", "externally_connectable", "minimum_chrome_version", "key"),
        *("action", "browser_specific_settings"),
    }
    assert set(firefox["permissions"]) - set(chrome["permissions"]) == {"activeTab"}


@pytest.mark.parametrize("browser", Browser)
def test_it_may_touch_whatsapp_only_keep_nothing_and_call_nobody(browser):
    shown = manifest(browser)
    assert shown["host_permissions"] == ["https://web.whatsapp.com/*"]
    assert set(shown["permissions"]) <= {"scripting", "activeTab"}
    assert {one for script in shown["content_scripts"] for one in script["matches"]} == {
        "https://web.whatsapp.com/*"
    }
    assert not {"optional_permissions", "optional_host_permissions", "web_accessible_resources"} & set(shown)
    scripts = [content.decode() for name, content in extension.load().items() if name.endswith(".js")]
    assert scripts
    forbidden = re.compile(
        r"\b(?:fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|import|storage|indexedDB|localStorage"
        r"|sessionStorage|cookies?|caches|eval|Function|innerHTML|console)\b"
    )
    for script in scripts:
        assert not forbidden.findall(script)
    assert forbidden.search("await fetch(url)")


def test_chromium_gives_it_the_id_that_the_connect_page_gets(tmp_path):
    assert extension.chrome_id(extension.load()) == "kalbcnghdgggihibinicfagbnflkacmp"
    assert "key" not in manifest(Browser.CHROME, for_store=True)
    without = {**manifest(Browser.CHROME), "key": None}
    assert {**manifest(Browser.CHROME, for_store=True), "key": None} == without
    assert manifest(Browser.FIREFOX, for_store=True) == manifest(Browser.FIREFOX)


def test_every_language_has_every_text():
    texts = {
        name: json.loads(content)
        for name, content in extension.load().items()
        if name.startswith("_locales/")
    }
    assert len(texts) == 3
    keys = {frozenset(each) for each in texts.values()}
    assert len(keys) == 1
    used = set()
    for name, content in extension.load().items():
        if name.endswith((".js", "manifest.json")):
            source = content.decode()
            used |= set(re.findall(r"__MSG_(\w+)__|say\('(\w+)'\)|\['(\w+)', '(\w+)'\]\.map", source))
    assert {word for found in used for word in found if word} == set(*keys)
    for each in texts.values():
        assert len(each["name"]["message"]) <= 75
        assert len(each["description"]["message"]) <= 132
