"""The package as a file: what Debian's own checks say of it, and that anybody can build the same."""

import base64
import json
import os
import re
import shutil
import tomllib

import pytest
from conftest import ROOT, output_of
from debian.copyright import Copyright

import waportd

MANUALS = ("man1/waportctl.1", "man8/waportd.8", "man5/waportd.yaml.5", "man8/whatsapp@.service.8")


def test_every_file_names_the_same_version(version):
    assert version == waportd.__version__
    assert json.loads((ROOT / "package.json").read_text())["version"] == version
    assert json.loads((ROOT / "package-lock.json").read_text())["version"] == version


@pytest.fixture(scope="module", params=["waportd", "waportd-fleet"])
def findings(request, package, fleet_package):
    """What lintian says, of every severity, as lines "SEVERITY: waportd: TAG …"; O is one that is overridden."""
    package = {"waportd": package, "waportd-fleet": fleet_package}[request.param]
    options = ["--display-info", "--display-experimental", "--pedantic", "--show-overrides", "--fail-on=none"]
    answer = output_of("lintian", *options, "--tag-display-limit=0", "--allow-root", package)
    # Debian 12's wants a script for other systems of initialisation; Debian 13's calls an override of that an error.
    obsolete = "package-supports-alternative-init-but-no-init.d-script"
    return [
        line for line in answer.splitlines() if not line.startswith(("N:", "M:")) and obsolete not in line
    ]


def test_lintian_finds_nothing(findings):
    assert [line for line in findings if not line.startswith("O:")] == []


def test_every_override_of_lintian_is_explained_and_needed(request, findings):
    name = request.node.callspec.params["findings"]
    lines = (ROOT / f"debian/{name}.lintian-overrides").read_text().splitlines()
    assert lines[0].startswith("# ")
    needed = {line.split()[2] for line in findings}
    assert {line.split()[1] for line in lines if not line.startswith("#")} == needed


def test_another_build_elsewhere_gives_the_same_bytes(package, fleet_package, tmp_path):
    """Another folder, time zone, locale, umask and home, and a tree whose files are older than the changelog."""
    sources = tmp_path / "some where else"
    output_of("git", "clone", "--quiet", "--no-local", ROOT, sources)
    for name in output_of("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, sources / name)
            shutil.copymode(ROOT / name, sources / name)
            os.utime(sources / name, (1_000_000_000, 1_000_000_000))
    changed = {
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "HOME": str(tmp_path),
        "DEB_BUILD_OPTIONS": "parallel=1",
        "npm_config_cache": output_of("npm", "config", "get", "cache").strip(),
    }
    output_of(
        "sh", "-c", "umask 077; exec tools/build-deb build/again dist",
        env={**os.environ, **changed}, cwd=sources,
    )  # fmt: skip
    for built in (package, fleet_package):
        again = sources / "dist" / built.name
        assert again.read_bytes() == built.read_bytes(), f"compare: diffoscope {built} {again}"


def test_nothing_is_compiled_and_nothing_belongs_to_others(package):
    for line in output_of("dpkg-deb", "--contents", package).splitlines():
        mode, owner, *_ = line.split()
        assert owner == "root/root", line
        assert not line.endswith((".pyc", "__pycache__/")), line
        assert mode[8] == "-", f"writable for everybody: {line}"
        assert "s" not in mode, f"set-user-id: {line}"


def test_a_host_on_its_own_gets_nothing_of_a_fleet(package, fleet_package, tmp_path):
    def files(one):
        listed = output_of("dpkg-deb", "--contents", one).splitlines()
        return {line.split()[5] for line in listed if not line.startswith("d")}

    of_fleets = {
        name for name in files(fleet_package) if "/share/doc/" not in name and "/lintian/" not in name
    }
    assert {
        name for name in of_fleets if not re.search("/fleet/|waportd-fleet|libexec/waportd", name)
    } == set()
    assert {
        name for name in files(package) if re.search("/waportd/fleet/|waportd-fleet|libexec/waportd", name)
    } == set()
    for name in ("usr/libexec/waportd/lease", "usr/lib/waportd/units/fleet/waportd-lease.service.in"):
        assert f"./{name}" in of_fleets


def modules_of(unpacked):
    """Each module of the package by where the lock file has it: what node takes for one, by the folder it lies in."""
    root = unpacked / "usr/lib/waportd"
    found = {}
    for path in root.rglob("package.json"):
        if re.fullmatch(r"(.*/)?node_modules/(@[^/]+/)?[^/]+", str(path.parent.relative_to(root))):
            found[str(path.parent.relative_to(root))] = json.loads(path.read_text())
    return found


def test_the_modules_are_those_that_a_server_loads_as_they_are_locked(unpacked):
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    listed = (ROOT / "tools/shipped-modules.txt").read_text().splitlines()
    shipped = modules_of(unpacked)
    # The list is held to what a server loads by tests/node/modules.test.js.
    assert sorted(shipped) == [line for line in listed if not line.startswith("#")]
    assert {name: package["version"] for name, package in shipped.items()} == {
        name: lock[name]["version"] for name in shipped
    }


def test_the_bill_of_materials_is_valid(unpacked, tmp_path):
    python, program = ROOT / ".venv/bin/python", ROOT / "tests/package/valid_bill.py"
    bill = unpacked / "usr/share/doc/waportd/waportd.cdx.json"
    assert output_of(python, program, bill) == ""
    # And what is not is found.
    wrong = json.loads(bill.read_text())
    wrong["components"][0]["licenses"] = [{"license": {"id": "MITT"}}]
    wrong["components"][1]["licenses"] = [{"expression": "MIT OR Nonsense-1"}]
    wrong["components"][2]["licenses"] = [{"license": {"name": "see elsewhere"}}]
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    faults = output_of(python, program, tmp_path / "wrong.json")
    assert faults.count("\n") == 3
    for word in ("['components', 0, 'licenses']", "Nonsense-1", "no name of SPDX"):
        assert word in faults


def test_the_bill_of_materials_lists_each_shipped_module_as_it_is_locked(unpacked, version):
    bill = json.loads((unpacked / "usr/share/doc/waportd/waportd.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert bill["metadata"]["component"]["name"] == "waportd"
    assert bill["metadata"]["component"]["version"] == version
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    shipped = modules_of(unpacked)
    assert [one["bom-ref"] for one in bill["components"]] == sorted(shipped)
    for one in bill["components"]:
        package, locked = shipped[one["bom-ref"]], lock[one["bom-ref"]]
        name = f"{one['group']}/{one['name']}" if "group" in one else one["name"]
        assert (name, one["version"]) == (package["name"], package["version"])
        assert one["purl"] == f"pkg:npm/{name.replace('@', '%40')}@{one['version']}"
        (hashed,) = one["hashes"]
        digest = base64.b64encode(bytes.fromhex(hashed["content"])).decode()
        assert f"{hashed['alg'].replace('-', '').lower()}-{digest}" == locked["integrity"]
        assert one["licenses"], name


def test_the_copyright_says_of_each_module_whose_it_is_and_under_which_license(unpacked):
    with (unpacked / "usr/share/doc/waportd/copyright").open(encoding="utf-8") as file:
        copyright_file = Copyright(file, strict=True)
    described = {paragraph.files[0]: paragraph for paragraph in copyright_file.all_files_paragraphs()}
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    for name, locked in lock.items():
        if not name or not (unpacked / "usr/lib/waportd" / name / "package.json").is_file():
            continue
        paragraph = described.pop(f"usr/lib/waportd/{name}/*")
        # Old modules name it in a way that the lock file does not repeat.
        assert paragraph.license.synopsis == locked.get("license", "MIT").replace(" ", "-"), name
        assert len(paragraph.license.text) > 50, name
        holders = paragraph.copyright.splitlines()
        assert all(re.match(r" *[\w<@(]", holder) for holder in holders), name
        assert not any(re.search("HOLDERS|Free Software Foundation|yyyy", holder) for holder in holders), name
    assert set(described) == {"*"}


@pytest.mark.parametrize("name", MANUALS)
def test_the_manual_pages_are_well_formed(unpacked, name):
    packed = unpacked / f"usr/share/man/{name}.gz"
    page = packed.with_suffix("")
    page.write_text(output_of("gzip", "--decompress", "--stdout", packed))
    assert output_of("mandoc", "-T", "lint", "-W", "warning", page) == ""
    answer = output_of(
        "sh", "-c", 'man --warnings --encoding=UTF-8 --local-file "$1" 2>&1 >/dev/null', "sh", page
    )
    assert answer == ""


def manual_page(unpacked, name):
    path = unpacked / f"usr/share/man/{name}.gz"
    return output_of("man", "--local-file", path, env={**os.environ, "MANWIDTH": "100"})


def test_the_manual_pages_name_every_option_and_every_key(unpacked):
    from waportd.config import schema

    for module, page in (("waportd", "man8/waportd.8"), ("waportd.cli", "man1/waportctl.1")):
        manual = manual_page(unpacked, page)
        told = output_of("/usr/bin/python3", "-m", module, "--help")
        for option in set(re.findall(r"--[a-z-]+", told)) - {"--help"}:
            assert option in manual
        for command in re.findall(r"(?m)^    ([a-z-]+)", told):
            assert re.search(rf"(?m)^ +{command}( |$)", manual), command
    manual = manual_page(unpacked, "man5/waportd.yaml.5")
    for key in schema():
        assert f"{key}: " in manual


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("waportd --ch", {"--check-config"}),
        ("waportd gen", {"generate-units"}),
        ("waportctl conn", {"connect-link"}),
        ("waportctl token ", {"list", "create", "revoke"}),
        ("waportctl start 2 --wait ", {"none", "listening", "qr", "ready"}),
        ("waportctl show ", {"2", "ana_1"}),
        ("waportd generate-units --", {"--output", "--prefix", "--help"}),
    ],
)
def test_bash_completes(unpacked, typed, offered):
    script = """
        . /usr/share/bash-completion/bash_completion
        . "$1"/usr/share/bash-completion/completions/"${2%% *}"
        COMP_LINE=$2 COMP_POINT=${#2}
        waportctl() { printf '    "user": "%s",\n' 2 ana_1; }
        read -ra COMP_WORDS <<<"$2"
        case $2 in *" ") COMP_WORDS+=("") ;; esac
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        eval "$(complete -p "${2%% *}" | sed "s/.*-F \\([^ ]*\\).*/\\1/")" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    assert set(output_of("bash", "-c", script, "bash", unpacked, typed).split()) >= offered


@pytest.mark.parametrize("program", ["waportd", "waportctl"])
def test_zsh_completes(unpacked, program):
    script = """
        fpath=("$1"/usr/share/zsh/vendor-completions $fpath)
        autoload -U compinit && compinit -u -D
        print -- $_comps[$2]
        waportctl() { printf '    "user": "%s",\n' 2 ana_1; }
        compadd() { shift; print -- "users: $*"; }
        # What completes an argument is asked for, in place of what is offered on a terminal.
        _arguments() { print -rl -- "$@"; _waportctl_users; }
        autoload +X $_comps[$2] && $_comps[$2]
    """
    said = output_of("zsh", "-f", "-c", script, "zsh", unpacked, program)
    assert said.splitlines()[0] == f"_{program}"
    assert "users: 2 ana_1" in said
    assert "--version" in said


def test_what_the_documents_link_to_is_there_unpacked(unpacked):
    documents = unpacked / "usr/share/doc/waportd"
    for name in ("alerts.yml", "grafana-dashboard.json", "examples/flask_app.py", "examples/client.sh"):
        assert (documents / name).read_bytes() == (ROOT / "docs" / name).read_bytes()


def test_the_packages_dependencies_are_those_of_the_python_package(package):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    depends = output_of("dpkg-deb", "--field", package, "Depends")
    for requirement in project["dependencies"]:
        name = re.match(r"[A-Za-z-]+", requirement)[0].lower()
        debian = {"pyyaml": "yaml", "systemd-python": "systemd"}.get(name, name)
        assert f"python3-{debian}" in depends
