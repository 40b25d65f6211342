"""`make install` into a folder, as on another distribution."""

import os
import subprocess

import pytest
from conftest import ROOT, output_of

PREFIX = "/usr/local"


@pytest.fixture(scope="module", autouse=True)
def built():
    output_of("make", "build", f"PREFIX={PREFIX}")


@pytest.fixture
def installed(tmp_path):
    output_of("make", "install", f"PREFIX={PREFIX}", f"DESTDIR={tmp_path}")
    return tmp_path


def run(installed, program, *arguments):
    (library,) = installed.glob("usr/local/lib/python3*/*-packages")
    environment = {**os.environ, "PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
    # In another folder: in the checkout, Python would find the package there.
    return output_of(installed / f"usr/local/bin/{program}", *arguments, cwd="/", env=environment)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_what_is_installed_finds_its_parts(installed, tmp_path_factory, version):
    assert run(installed, "waportctl", "--version") == f"waportctl {version}\n"
    assert run(installed, "waportd", "--version") == f"waportd {version}\n"
    config = installed / "etc/waportd/config.yaml"
    assert "ok" in run(installed, "waportd", "--config", config, "--check-config")
    units = tmp_path_factory.mktemp("units")
    run(installed, "waportd", "--config", config, "generate-units", "--output", units)
    server = (units / "whatsapp@.service").read_text()
    script = installed / "usr/local/lib/waportd/whatsapp_server.js"
    assert f'"{script}" %i' in server
    output_of("node", "--check", script)
    output_of("node", "-e", f"require('{script.parent}/node_modules/whatsapp-web.js')", cwd="/")


def test_the_extension_is_installed_and_is_what_the_daemon_hands_out(installed):
    folder = installed / "usr/local/share/waportd/extension"
    assert files(folder) == files(ROOT / "extension") - {"README.md"}
    (library,) = installed.glob("usr/local/lib/python3*/*-packages")
    script = (
        "from waportd import extension; import hashlib; print(extension.folder(),"
        " *(hashlib.sha256(extension.archive(one, extension.load())).hexdigest() for one in extension.Browser))"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    from_install, *archives = output_of(
        "/usr/bin/python3", "-c", script, cwd="/", env={**environment, "PYTHONPATH": str(library)}
    ).split()
    assert from_install == str(folder)
    from_checkout, *same = output_of("/usr/bin/python3", "-c", script, cwd=ROOT, env=environment).split()
    assert from_checkout == str(ROOT / "extension")
    assert archives == same


def test_the_installed_units_name_the_prefix(installed):
    units = installed / "etc/systemd/system"
    assert sorted(path.name for path in units.iterdir()) == [
        "waportd.service", "waportd.socket", "whatsapp-life.target", "whatsapp-move@.service",
        "whatsapp-networks-changed.service", "whatsapp-networks.path", "whatsapp-networks.service",
        "whatsapp-pause@.service", "whatsapp.slice", "whatsapp.target", "whatsapp@.service", "whatsapp@.socket",
    ]  # fmt: skip
    assert f'ExecStart="{PREFIX}/bin/waportd"' in (units / "waportd.service").read_text()
    mover = f"{PREFIX}/lib/waportd/whatsapp_move.py"
    assert f'"{mover}" system %i' in (units / "whatsapp-move@.service").read_text()
    assert (installed / mover[1:]).is_file()
    assert f'"{PREFIX}/lib/waportd/whatsapp_server.js" %i' in (units / "whatsapp@.service").read_text()
    # Where polkit, D-Bus and systemd-sysusers look for what the distribution did not bring.
    for name in (
        "polkit-1/rules.d/waportd.rules",
        "polkit-1/rules.d/waportd-fleet.rules",
        "dbus-1/system.d/waportd.conf",
        "sysusers.d/waportd.conf",
    ):
        assert (installed / "etc" / name).is_file()


def test_another_installation_keeps_the_configuration(installed):
    config = installed / "etc/waportd/config.yaml"
    config.write_text("limits:\n  max_running: 3\n")
    before = files(installed)
    output_of("make", "install", f"PREFIX={PREFIX}", f"DESTDIR={installed}")
    assert config.read_text() == "limits:\n  max_running: 3\n"
    assert files(installed) == before


def test_uninstall_leaves_the_configuration_only(installed):
    output_of("make", "uninstall", f"PREFIX={PREFIX}", f"DESTDIR={installed}")
    assert files(installed) == {"etc/waportd/config.yaml"}


def test_a_prefix_that_python_does_not_look_below_is_refused(tmp_path):
    answer = subprocess.run(
        ["make", "install", "PREFIX=/opt/nowhere", f"DESTDIR={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode != 0
    assert "choose PREFIX= or PYTHON=" in answer.stderr
    assert files(tmp_path) == set()
