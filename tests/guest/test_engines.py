"""Engines on an installed machine: put there by root, tried by nobody, run by sessions."""

import json
import time

import pytest
from faults import note_seen
from harness import CONFIG, until
from rows import EVERYTHING
from testbed import guests

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[:1]
FOLDER = "/var/lib/waportd-engines"
MAKE = r"""
set -eu
version=$1
rm -rf /tmp/make && mkdir -p /tmp/make/engine
cp -r /usr/lib/waportd/node_modules /tmp/make/engine/
library=/tmp/make/engine/node_modules/whatsapp-web.js
sed -i 's/"version": "[^"]*"/"version": "'"$version"'"/' "$library/package.json"
cat >> "$library/src/Client.js"
tar --create --gzip --file "/root/$version.tgz" --directory /tmp/make engine
rm -r /tmp/make
"""
STUCK = "\nClient.prototype.inject = () => new Promise(() => {});\n"
CURIOUS = """
const fs = require('fs');
const tried = { uid: process.getuid() };
for (const [name, attempt] of Object.entries({
    configuration: () => fs.readFileSync('/etc/waportd/config.yaml'),
    root: () => fs.readdirSync('/root'),
    home: () => fs.readdirSync('/home').length > 0 || fs.readdirSync('/nowhere'),
    engines: () => fs.writeFileSync('/var/lib/waportd-engines/hostile', ''),
    itself: () => fs.writeFileSync(__filename, ''),
    network: () => require('child_process').execFileSync('curl', ['--insecure', 'https://127.0.0.1:8443/']),
    others: () => fs.readFileSync('/proc/1/environ'),
})) {
    try { attempt(); tried[name] = 'done'; } catch { tried[name] = 'refused'; }
}
throw new Error(JSON.stringify(tried));
"""


def ctl(site, *arguments, user=None):
    return site.machine.run("waportctl", "engine", *arguments, user=user, check=False)


def make(site, version, more=""):
    """Put a file with an engine into root's home: the bundled library under another version, with more at its end."""
    site.machine.run("sh", "-c", MAKE, "make", version, given=more)
    return f"/root/{version}.tgz"


@pytest.fixture(scope="module")
def engine(site):
    path = make(site, "1.99.0")
    said = ctl(site, "install", "--file", path)
    assert said.returncode == 0, said.stderr
    return "1.99.0"


def test_what_is_installed_is_roots_and_for_everybody_to_read(site, engine):
    found = site.machine.run("find", f"{FOLDER}/{engine}", "-printf", "%u:%g %m %y\n").stdout
    assert set(found.splitlines()) == {"root:root 755 d", "root:root 644 f"}
    assert site.machine.run("stat", "--format=%U:%G %a", FOLDER).stdout == "root:root 755\n"
    listed = json.loads(ctl(site, "list", "--json", user="webapp").stdout)
    assert [each["engine"] for each in listed["engines"]] == ["bundled", engine]


def test_servers_load_it_as_the_installation_has_compiled_it(site, engine):
    found = site.machine.run("find", f"{FOLDER}/compiled", "-printf", "%u:%g %m %f\n").stdout
    folder, *compiled = sorted(found.splitlines(), key=len)
    version = site.machine.run("node", "--version").stdout.strip()
    assert folder == "root:root 755 compiled"
    assert sorted(compiled) == [f"root:root 644 {name}-{version}.code" for name in (engine, "bundled")]
    site.show_code("5")
    unit = f"whatsapp@{site.call('GET', '/v1/users/5')['port']}"
    said = site.machine.run("journalctl", "--unit", unit, "--output=cat").stdout
    assert "compiled=true" in said, said
    # A new node makes what was made for the former one useless.
    site.machine.run("dpkg-trigger", "--by-package=nodejs", "/usr/bin/node")
    site.machine.run("rm", "-r", f"{FOLDER}/compiled")
    site.machine.run("dpkg", "--triggers-only", "waportd")
    assert site.machine.run("ls", f"{FOLDER}/compiled").stdout.split() == [
        f"{name}-{version}.code" for name in (engine, "bundled")
    ]
    site.call("DELETE", "/v1/users/5", expected=204)


def test_a_library_is_tried_by_a_user_that_owns_nothing(site, engine):
    said = ctl(site, "install", "--file", make(site, "1.98.0", CURIOUS))
    assert said.returncode == 1
    tried = json.loads(said.stderr[said.stderr.index("{") : said.stderr.rindex("}") + 1])
    assert 61184 <= tried.pop("uid") <= 65519
    assert set(tried.values()) == {"refused"}, tried
    assert site.machine.run("ls", FOLDER).stdout.split() == [engine, "compiled"]


def test_only_root_changes_them(site, engine):
    for user in ("webapp", "stranger"):
        for arguments in (("use", engine), ("remove", engine), ("rollback",), ("install", "1.34.6")):
            said = ctl(site, *arguments, user=user)
            assert said.returncode == 4, said.stderr


def test_a_session_runs_with_it_after_a_trial_and_goes_back(site, engine):
    site.show_code("2")
    before = site.machine.run("cat", CONFIG).stdout
    owner = site.machine.run("stat", "--format=%U:%G %a", CONFIG).stdout
    said = ctl(site, "use", engine, "--canary", "1", "--watch", "3")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "user 2: shows a code after" in said.stdout
    after = site.machine.run("cat", CONFIG).stdout
    assert [line for line in after.splitlines() if line not in before.splitlines()] == [f"  engine: {engine}"]
    assert site.machine.run("stat", "--format=%U:%G %a", CONFIG).stdout == owner
    shown = site.call("GET", "/v1/users/2")
    assert (shown["engine"], shown["own_engine"]) == (engine, False)
    assert shown["session"]["upstream"]["engine"] == engine
    assert shown["session"]["upstream"]["library"] == engine
    assert site.link("2", "5511999990099")["session"]["phone_number"] == "5511999990099"

    said = ctl(site, "rollback", "--restart")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "user 2: connected after" in said.stdout
    assert site.call("GET", "/v1/users/2")["session"]["upstream"]["engine"] == "bundled"


def test_one_that_does_not_get_there_is_taken_back_automatically(site, engine):
    said = ctl(site, "install", "--file", make(site, "1.97.0", STUCK))
    assert said.returncode == 0, said.stderr
    site.show_code("3")
    before = site.machine.run("cat", CONFIG).stdout
    began = time.monotonic()
    said = ctl(site, "use", "1.97.0", "--canary", "2", "--limit", "15")
    assert said.returncode == 7, said.stdout + said.stderr
    assert "Rolled back" in said.stdout
    assert site.machine.run("cat", CONFIG).stdout == before
    for user in site.call("GET", "/v1/users")["users"]:
        assert (user["engine"], user["own_engine"]) == ("bundled", False)
    until(lambda: site.call("GET", "/v1/users/2")["session"]["state"] == "ready", "user 2")
    note_seen(
        site, "an engine that never gets to a code is tried on two users", "it is taken back from both", began
    )
    assert ctl(site, "remove", "1.97.0").returncode == 0


def test_one_that_is_gone_is_an_error_with_the_way_out_and_not_a_loop(site, engine):
    site.ask("PATCH", "/v1/users/3", {"engine": engine})
    site.machine.run("mv", f"{FOLDER}/{engine}", f"{FOLDER}/away")
    try:
        site.ask("POST", "/v1/users/3/restart")
        site.ask("POST", "/v1/users/3/start?wait=qr&timeout=5")
        shown = site.until_session("3", "error")
        assert shown["session"]["cause"] == "engine_missing"
        assert "waportctl engine" in shown["session"]["hint"]
        assert shown["process"]["state"] == "running"
        assert shown["process"]["restarts"] == 0
        doctor = site.machine.run("waportctl", "doctor", "--offline", "--json", check=False)
        found = [each for each in json.loads(doctor.stdout)["findings"] if each["check"] == "engines"]
        assert [each["verdict"] for each in found] == ["ok", "fail"]
        assert f"user 3 has engine {engine}" in found[1]["message"]
    finally:
        site.machine.run("mv", f"{FOLDER}/away", f"{FOLDER}/{engine}")
    back = time.monotonic()
    site.show_code("3")
    assert site.call("GET", "/v1/users/3")["session"]["upstream"]["engine"] == engine
    note_seen(
        site,
        "the engine of a user is gone",
        "an error with the way out, and no loop; seconds from its return",
        back,
    )
    said = ctl(site, "remove", engine)
    assert said.returncode == 1
    assert "it is the engine of user 3" in said.stderr
    site.ask("PATCH", "/v1/users/3", {"engine": None})


def test_a_pinned_page_is_loaded_in_a_real_session(site):
    page = "/etc/waportd-page.html"
    fetch = "fetch('https://127.0.0.1:8443/').then((page) => page.text()).then((text) => console.log(text))"
    kept = site.machine.run("env", "NODE_TLS_REJECT_UNAUTHORIZED=0", "node", "-e", fetch).stdout
    site.machine.run("tee", page, given=kept)
    site.machine.run("chmod", "644", page)
    instances = site.config["instances"]
    site.configure(instances={**instances, "web_version": page})
    site.phone("no-debug", {})
    try:
        site.ask("POST", "/v1/users/3/restart")
        site.show_code("3")
        assert site.call("GET", "/v1/users/3")["session"]["upstream"]["pinned"] == page
        assert site.call("GET", "/v1/health")["web_version"] == page
        doctor = site.machine.run("waportctl", "doctor", "--offline", "--json", check=False)
        findings = json.loads(doctor.stdout)["findings"]
        assert "engines" in {each["check"] for each in findings if each["verdict"] == "warn"}
    finally:
        site.phone("no-debug", {"on": False})
        site.configure(instances=instances)
