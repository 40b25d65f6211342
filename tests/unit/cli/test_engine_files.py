"""Engines on the disk: from a registry, from files of strangers, tried, packed and removed."""

import dataclasses
import gzip
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest
from registry import CLIENT, Registry, archive, install, packages, sri

from waportd import engines
from waportd.cli import engine_files
from waportd.cli.engine_files import History
from waportd.cli.exit_status import Problem
from waportd.config import Bus, Config

pytestmark = pytest.mark.usefixtures("untried_by_systemd")

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path):
    config = Config()
    node = shutil.which("node")
    return dataclasses.replace(
        config,
        store=dataclasses.replace(config.store, directory=tmp_path),
        systemd=dataclasses.replace(config.systemd, bus=Bus.SESSION),
        instances=dataclasses.replace(config.instances, node=node),
    )


@pytest.fixture
def registry(monkeypatch, tmp_path):
    registry = Registry()
    monkeypatch.setenv("npm_config_registry", registry.url)
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    yield registry
    registry.close()


def names(config):
    return [engine.name for engine in engines.installed(config)]


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refusal(config, make):
    """Return why something was not installed; nothing of it is left."""
    before = everything(config.engines) if config.engines.exists() else []
    with pytest.raises(Problem) as caught, engine_files.opened(config) as shelf:
        make(shelf)
    assert everything(config.engines) == before
    return caught.value


class TestRegistry:
    def test_a_version_is_fetched_checked_and_tried(self, config, registry):
        integrity = registry.publish("1.34.6")
        with engine_files.opened(config) as shelf:
            made = shelf.install("1.34.6", None)
        assert (made.name, made.integrity, made.source, made.pinned) == ("1.34.6", integrity, "npm", False)
        [_, engine] = engines.installed(config)
        assert (engine.name, engine.library, engine.integrity, engine.source) == (
            "1.34.6",
            "1.34.6",
            integrity,
            "npm",
        )
        lock = json.loads((made.folder / "package-lock.json").read_text("utf-8"))
        assert lock["packages"]["node_modules/whatsapp-web.js"]["integrity"] == integrity
        assert lock["packages"]["node_modules/debug"]["integrity"].startswith("sha512-")

    def test_nothing_of_a_package_is_run_and_no_link_is_made(self, config, registry):
        registry.publish("1.34.6")
        with engine_files.opened(config) as shelf:
            made = shelf.install("1.34.6", None)
        assert not [path for path in everything(made.folder) if Path(path).name in {"ran", ".bin"}]
        for path in [made.folder, *made.folder.rglob("*")]:
            found = path.lstat()
            assert stat.S_IMODE(found.st_mode) == (0o755 if path.is_dir() else 0o644)
            assert path.is_dir() or path.is_file()
            assert not path.is_symlink()
            assert found.st_uid == os.geteuid()

    def test_another_hash_than_was_given_is_refused_before_anything_is_fetched(self, config, registry):
        registry.publish("1.34.6")
        other = sri(b"other")
        problem = refusal(config, lambda shelf: shelf.install("1.34.6", other))
        assert problem.code == "wrong_integrity"
        assert other in problem.message
        assert not [path for path in registry.asked if path.endswith(".tgz")]

    def test_the_hash_that_was_given_is_noted(self, config, registry):
        integrity = registry.publish("1.34.6")
        with engine_files.opened(config) as shelf:
            assert shelf.install("1.34.6", integrity).pinned

    @pytest.mark.parametrize("name", ["whatsapp-web.js", "debug"])
    def test_a_package_that_is_not_what_the_registry_promised_is_refused(self, config, registry, name):
        registry.publish("1.34.6")
        [file] = [file for file in registry.tarballs if file.startswith(f"{name}/")]
        registry.tarballs[file] = archive([("package/index.js", "hostile")])
        problem = refusal(config, lambda shelf: shelf.install("1.34.6", None))
        assert problem.code == "npm_failed"
        assert "EINTEGRITY" in problem.message

    def test_a_registry_that_names_no_hash_is_not_believed(self, config, registry):
        registry.publish("1.34.6")
        del registry.documents["debug"]["versions"]["1.0.0"]["dist"]["integrity"]
        problem = refusal(config, lambda shelf: shelf.install("1.34.6", None))
        assert problem.code == "no_integrity"
        assert "debug" in problem.message

    def test_a_version_that_is_not_there_is_reported(self, config, registry):
        registry.publish("1.34.6")
        problem = refusal(config, lambda shelf: shelf.install("1.34.5", None))
        assert "ETARGET" in problem.message
        assert "npm view" in problem.hint

    def test_a_registry_that_does_not_answer_is_reported(self, config, registry, monkeypatch):
        registry.close()
        monkeypatch.setenv("npm_config_fetch_retries", "0")
        problem = refusal(config, lambda shelf: shelf.install("1.34.6", None))
        assert "ECONNREFUSED" in problem.message

    def test_without_npm_it_says_how_to_do_without(self, config, monkeypatch):
        monkeypatch.setattr(engine_files.shutil, "which", lambda _: None)
        assert "--file" in refusal(config, lambda shelf: shelf.install("1.34.6", None)).hint

    @pytest.mark.parametrize(
        ("client", "why"),
        [
            ("class {", "Unexpected token"),
            (CLIENT.replace("inject()", "injekt()"), "no Client.inject"),
            ("require('left-pad');", "Cannot find module 'left-pad'"),
            ("process.exit(0);", "no output"),
            ("process.stdout.write('{}\\n'); process.exit(0);", "no output"),
        ],
    )
    def test_a_library_that_cannot_be_used_is_not_installed(self, config, registry, client, why):
        registry.publish("1.34.6", client=client)
        problem = refusal(config, lambda shelf: shelf.install("1.34.6", None))
        assert problem.code == "bad_engine"
        assert why in problem.message

    def test_a_version_that_is_there_is_not_fetched_again(self, config, registry):
        registry.publish("1.34.6")
        with engine_files.opened(config) as shelf:
            shelf.install("1.34.6", None)
        asked = len(registry.asked)
        assert refusal(config, lambda shelf: shelf.install("1.34.6", None)).code == "engine_exists"
        assert len(registry.asked) == asked


@pytest.fixture
def bundle(config, tmp_path):
    """A file as `engine pack` makes it."""
    folder = install(config.engines / "1.34.6", "1.34.6")
    manifest = {"library": "1.34.6", "integrity": "sha512-x", "source": "npm", "installed_at": 1}
    (folder / "engine.json").write_text(json.dumps(manifest), "utf-8")
    output = tmp_path / "engine.tgz"
    integrity = engine_files.pack("1.34.6", config, output, None)
    assert integrity == sri(output.read_bytes())
    shutil.rmtree(config.engines)
    return output


def entries(version="1.34.6"):
    """Return the members of a good archive."""
    return [
        (f"engine/node_modules/{name}/{path}", text)
        for name, files in packages(version).items()
        for path, text in files.items()
    ]


class TestFile:
    def test_what_was_packed_is_installed_on_another_host(self, config, bundle):
        with engine_files.opened(config) as shelf:
            made = shelf.install_file(bundle, None)
        assert (made.name, made.source, made.integrity) == ("1.34.6", "file", sri(bundle.read_bytes()))
        assert names(config) == ["bundled", "1.34.6"]
        assert not made.pinned

    def test_two_files_of_the_same_engine_are_the_same(self, config, bundle, tmp_path):
        with engine_files.opened(config) as shelf:
            shelf.install_file(bundle, None)
        again = tmp_path / "again.tgz"
        engine_files.pack("1.34.6", config, again, None)
        assert again.read_bytes() == bundle.read_bytes()

    def test_one_that_is_not_installed_is_packed_from_the_registry(self, config, registry, tmp_path):
        registry.publish("1.34.9")
        output = tmp_path / "engine.tgz"
        integrity = engine_files.pack("1.34.9", config, output, None)
        assert not config.engines.exists()
        with engine_files.opened(config) as shelf:
            assert shelf.install_file(output, integrity).pinned
        assert names(config) == ["bundled", "1.34.9"]

    def test_a_file_is_not_written_over(self, config, bundle):
        with pytest.raises(Problem, match="already exists"):
            engine_files.pack("1.34.6", config, bundle, None)

    def test_another_hash_than_was_given_is_refused(self, config, bundle):
        problem = refusal(config, lambda shelf: shelf.install_file(bundle, sri(b"other")))
        assert problem.code == "wrong_integrity"

    def test_a_plain_archive_of_the_same_files_is_as_good(self, config, tmp_path):
        path = tmp_path / "file.tgz"
        path.write_bytes(archive([("engine", tarfile.DIRTYPE), *entries()]))
        with engine_files.opened(config) as shelf:
            assert shelf.install_file(path, None).name == "1.34.6"

    @pytest.mark.parametrize(
        ("members", "why"),
        [
            ([("/etc/cron.d/x", "hostile")], "lies outside"),
            ([("../x", "hostile")], "lies outside"),
            ([("engine/../../x", "hostile")], "lies outside"),
            ([("engine/./x", "hostile")], "lies outside"),
            ([("engine//x", "hostile")], "lies outside"),
            ([("engine/x/..", "hostile")], "lies outside"),
            ([("engine", "hostile")], "lies outside"),
            ([("other/x", "hostile")], "lies outside"),
            ([("engine/" + "a/" * 30 + "x", "hostile")], "lies outside"),
            ([("engine/" + "a" * 256, "hostile")], "lies outside"),
            ([("engine/x\ny", "hostile")], "lies outside"),
            ([("engine/x\x1b[2J", "hostile")], "lies outside"),
            ([("engine/x", tarfile.SYMTYPE, "/etc/passwd")], "neither a file nor a folder"),
            ([("engine/x", tarfile.LNKTYPE, "/etc/passwd")], "neither a file nor a folder"),
            ([("engine/x", tarfile.LNKTYPE, "engine/node_modules/debug/index.js")], "neither a file"),
            ([("engine/x", tarfile.CHRTYPE)], "neither a file nor a folder"),
            ([("engine/x", tarfile.BLKTYPE)], "neither a file nor a folder"),
            ([("engine/x", tarfile.FIFOTYPE)], "neither a file nor a folder"),
            ([("engine/x", tarfile.SYMTYPE, "/tmp"), ("engine/x/y", "hostile")], "neither a file"),
            ([("engine/x", tarfile.CONTTYPE)], "neither a file nor a folder"),
            ([("engine/x", "one"), ("engine/x", "two")], "File exists"),
            ([("engine/x", "one"), ("engine/x/y", "two")], "Not a directory"),
            ([("package/package.json", "{}")], "a package of npm"),
            ([("engine/node_modules/debug/x", "only this")], "there is no whatsapp-web.js in it"),
        ],
    )
    def test_an_archive_with_anything_else_in_it_is_refused_as_a_whole(self, config, tmp_path, members, why):
        path = tmp_path / "file.tgz"
        good = [] if why.startswith(("a package", "there is")) else entries()
        path.write_bytes(archive([*good, *members]))
        before = set(tmp_path.iterdir())
        problem = refusal(config, lambda shelf: shelf.install_file(path, None))
        assert problem.code == "bad_engine"
        assert why in problem.message
        assert problem.message.isprintable()
        assert set(tmp_path.iterdir()) <= before | {config.engines}

    @pytest.mark.parametrize("version", ["1.34", "../x", "bundled", "1.34.7\n", "latest"])
    def test_a_library_that_names_no_version_is_refused(self, config, tmp_path, version):
        path = tmp_path / "file.tgz"
        path.write_bytes(archive(entries(version)))
        assert "is not a version" in refusal(config, lambda shelf: shelf.install_file(path, None)).message

    @pytest.mark.parametrize(
        "content",
        [
            lambda _: b"",
            lambda _: b"no archive",
            lambda _: gzip.compress(b"no archive"),
            lambda good: good[:-200],
            lambda good: good[:40],
            lambda good: good[:100] + b"0" * 100 + good[200:],
        ],
        ids=["nothing", "a text", "a packed text", "most of one", "its begin", "a damaged one"],
    )
    def test_what_is_no_archive_is_refused(self, config, tmp_path, content):
        path = tmp_path / "file.tgz"
        path.write_bytes(content(archive(entries())))
        assert refusal(config, lambda shelf: shelf.install_file(path, None)).code == "bad_engine"

    def test_one_that_unpacks_without_end_is_refused(self, config, tmp_path, monkeypatch):
        monkeypatch.setattr(engine_files.Limited, "left", 1 << 20)
        path = tmp_path / "file.tgz"
        path.write_bytes(archive([*entries(), ("engine/x", "0" * (2 << 20))]))
        assert "more than" in refusal(config, lambda shelf: shelf.install_file(path, None)).message
        # In a header, which is read as a whole.
        with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as file:
            member = tarfile.TarInfo("engine/x")
            member.pax_headers = {"comment": "0" * (2 << 20)}
            file.addfile(member)
        assert "more than" in refusal(config, lambda shelf: shelf.install_file(path, None)).message

    def test_one_of_countless_files_is_refused(self, config, tmp_path, monkeypatch):
        monkeypatch.setattr(engine_files, "MAX_MEMBERS", 100)
        path = tmp_path / "file.tgz"
        path.write_bytes(archive([*entries(), *((f"engine/{number}", "xx") for number in range(100))]))
        assert "more than 100 files" in refusal(config, lambda shelf: shelf.install_file(path, None)).message

    def test_what_is_no_file_is_not_waited_for(self, config, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path, why in (
            (tmp_path / "pipe", "is not a file"),
            (Path("/dev/zero"), "is not a file"),
            (tmp_path, "Is a directory"),
            (tmp_path / "none", "No such file"),
        ):
            problem = refusal(config, lambda shelf, path=path: shelf.install_file(path, None))
            assert why in problem.message

    def test_a_file_that_changes_after_it_was_checked_is_not_unpacked(self, config, bundle, monkeypatch):
        real, good = engine_files.integrity_of, bundle.read_bytes()

        def check_and_swap(file):
            found = real(file)
            bundle.write_bytes(archive([("engine/x", "hostile")]))
            return found

        monkeypatch.setattr(engine_files, "integrity_of", check_and_swap)
        with engine_files.opened(config) as shelf:
            shelf.install_file(bundle, sri(good))
        assert names(config) == ["bundled", "1.34.6"]


class TestFolder:
    def test_one_that_others_may_write_to_is_refused(self, config):
        config.engines.mkdir()
        config.engines.chmod(0o777)
        with pytest.raises(Problem, match="users other than root may write in") as caught:
            engine_files.opened(config).__enter__()
        assert "chmod go-w" in caught.value.hint

    @pytest.mark.skipif(os.geteuid() != 0, reason="what lies above matters where root writes")
    def test_one_that_others_could_put_another_in_the_place_of_is_refused(self, config, tmp_path):
        tmp_path.chmod(0o777)
        with pytest.raises(Problem, match="users other than root"):
            engine_files.opened(config).__enter__()
        tmp_path.chmod(0o1777)
        with engine_files.opened(config):
            pass
        os.chown(tmp_path, 12345, 12345)
        with pytest.raises(Problem, match="users other than root"):
            engine_files.opened(config).__enter__()

    def test_a_link_in_its_place_is_not_followed(self, config, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        config.engines.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Problem, match="cannot be used"):
            engine_files.opened(config).__enter__()

    def test_one_call_works_at_a_time(self, config):
        with engine_files.opened(config), pytest.raises(Problem, match="another `waportctl engine`"):
            engine_files.opened(config).__enter__()
        with engine_files.opened(config):
            pass

    def test_what_a_killed_call_left_goes_with_the_next_one(self, config):
        with engine_files.opened(config):
            pass
        (config.engines / ".new-1234" / "engine").mkdir(parents=True)
        (config.engines / ".gone-1234").mkdir()
        (config.engines / ".new-5678").write_text("x")
        with engine_files.opened(config):
            pass
        assert everything(config.engines) == []

    def test_a_kill_at_any_moment_leaves_a_whole_engine_or_none(self, config, bundle, tmp_path):
        """Ends the program before each of its changes of the disk, one after the other."""
        program = textwrap.dedent(
            f"""
            import os, sys
            sys.path[:0] = [{str(CHECKOUT)!r}]
            from pathlib import Path
            from waportd.cli import engine_files
            from waportd.config import parse
            left = int(sys.argv[1])
            def dies(name):
                real = getattr(os, name)
                def call(*arguments, **options):
                    global left
                    left -= 1
                    if left < 0:
                        os._exit(9)
                    return real(*arguments, **options)
                setattr(os, name, call)
            for name in ("mkdir", "rename", "chmod", "unlink", "rmdir", "sync"):
                dies(name)
            engine_files.try_engine = lambda *_: "1.34.6"
            config = parse({f"store: {{directory: {tmp_path}}}, systemd: {{bus: session}}"!r}
                .replace(", systemd", chr(10) + "systemd"), "x")
            with engine_files.opened(config) as shelf:
                shelf.install_file(Path({str(bundle)!r}), None)
            """
        )
        whole, died = None, 0
        for moment in range(0, 400, 3):
            done = subprocess.run(
                [sys.executable, "-c", program, str(moment)], capture_output=True, check=False
            )
            found = names(config)
            if done.returncode == 0:
                whole = everything(config.engines / "1.34.6")
                break
            assert done.returncode == 9, done.stderr.decode()
            died += 1
            if "1.34.6" in found:
                assert "engine.json" in everything(config.engines / "1.34.6")
                shutil.rmtree(config.engines / "1.34.6")
        assert whole
        assert died > 10

    def test_an_engine_is_removed_to_its_last_file(self, config, bundle):
        with engine_files.opened(config) as shelf:
            shelf.install_file(bundle, None)
            shelf.remove("1.34.6")
        assert everything(config.engines) == []

    def test_what_is_noted_is_there_for_the_next_call(self, config):
        assert engine_files.read_history(config) == History()
        with engine_files.opened(config) as shelf:
            shelf.write_history(History("1.34.6", ["2", "2_1"]))
        assert engine_files.read_history(config) == History("1.34.6", ["2", "2_1"])
        (config.engines / "history.json").write_text("[]")
        assert engine_files.read_history(config) == History()

    def test_a_full_disk_is_reported_before_anything_is_fetched(self, config, monkeypatch):
        usage = shutil.disk_usage(config.store.directory)
        monkeypatch.setattr(engine_files.shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
        assert "has 1 MiB left" in refusal(config, lambda shelf: shelf.install("1.34.6", None)).message


def test_root_has_a_library_tried_by_a_user_that_owns_nothing(config, monkeypatch, tmp_path):
    monkeypatch.undo()
    seen = []

    def run(command, **_):
        seen.append(command)
        return subprocess.CompletedProcess(command, 0, '{"engine": "x", "library": "1.34.6"}\n', "")

    monkeypatch.setattr(engine_files.bounded, "run", run)
    for uid, first in ((0, "systemd-run"), (1000, shutil.which("node"))):
        monkeypatch.setattr(engine_files.os, "geteuid", lambda uid=uid: uid)
        assert engine_files.try_engine(tmp_path, config) == "1.34.6"
        assert seen[-1][0] == first
    assert {"--property=DynamicUser=yes", "--property=PrivateNetwork=yes"} <= set(seen[0])
