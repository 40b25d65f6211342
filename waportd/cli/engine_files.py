"""Engines on the disk: fetched by npm or taken from a file, tried, put in their place, packed, removed.

All of it runs as root where the servers are the system's, and the code that it handles is untrusted. So an engine
is made in a new folder of root's, from files and folders alone (no links, devices, or ways out of the folder), its
library is tried by a user that owns nothing, and only then it gets the name under which a server may load it.
"""

import base64
import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from waportd import engines, files
from waportd.cli import bounded, terminal
from waportd.cli.exit_status import Exit, Problem
from waportd.config import Config, shipped

LIBRARY: Final = "whatsapp-web.js"
INTEGRITY: Final = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
"""What a package is checked against: its SHA-512 in base64, as npm and browsers write it."""

_NPM_OPTIONS: Final = (
    # Nothing of a package runs here; and no links to its programs.
    *("--ignore-scripts", "--no-bin-links"),
    # Of the library's options, archivers for logins on other hosts, nothing is used.
    *("--omit=dev", "--omit=optional"),
    *("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"),
)
_NPM_LIMIT: Final = 600.0
TRY_LIMIT_S: Final = 60.0
"""Seconds until a library must be loaded; it takes half of one."""
_ROOM: Final = 256 << 20
"""Bytes that must be free: an engine takes 70 MiB, and while npm makes it twice that."""
_MAX_FILE: Final = 64 << 20
_MAX_UNPACKED: Final = 256 << 20
MAX_MEMBERS: Final = 20_000
_MAX_DEPTH: Final = 24
_TOP: Final = "engine"
"""The one folder at the top of an archive."""
MAKING, _GOING = ".new-", ".gone-"
_HISTORY: Final = "history.json"
SANDBOX: Final = (
    *("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec"),
    "--setenv=HOME=/nonexistent",  # puppeteer asks for one when it is loaded
    *(
        f"--property={limit}"
        for limit in (
            "DynamicUser=yes",
            "PrivateNetwork=yes",
            "ProtectHome=yes",
            "PrivateDevices=yes",
            "ProtectProc=invisible",
            "CapabilityBoundingSet=",
            "MemoryMax=512M",
            "TasksMax=64",
            "LimitCORE=0",
            f"RuntimeMaxSec={TRY_LIMIT_S:.0f}",
        )
    ),
)
"""How root tries a library: as a user that owns nothing, for a minute, without a network."""


@dataclass(frozen=True, slots=True)
class Made:
    """An engine that was just put in its place."""

    name: str
    folder: Path
    integrity: str
    """Of the library's package, or of the file that it came from."""
    source: str
    pinned: bool
    """It was checked against a hash that the caller gave."""


def integrity_of(file: IO[bytes]) -> str:
    """Return the hash of a file, from where it stands to its end."""
    digest = hashlib.sha512()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return f"sha512-{base64.b64encode(digest.digest()).decode()}"


@dataclass(frozen=True, slots=True)
class History:
    """What a call leaves for the next one."""

    previous: str | None = None
    """The default before this one."""
    canaries: list[str] = field(default_factory=list)
    """Users that an engine is being tried on."""


def read_history(config: Config) -> History:
    """Return what the last call left; nothing where there was none."""
    try:
        noted = json.loads((config.engines / _HISTORY).read_text("utf-8"))
        return History(noted["previous"] and str(noted["previous"]), list(map(str, noted["canaries"])))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return History()


class Shelf:
    """The folder of the engines, while nobody else changes it."""

    def __init__(self, folder: Path, config: Config, descriptor: int) -> None:
        self.folder = folder
        self._config = config
        self._descriptor = descriptor

    def install(self, version: str, integrity: str | None) -> Made:
        """Fetch a version of the library, and all that it needs, from the npm registry."""
        self._refuse_if_there(version)
        with self._new() as folder:
            found = _fetch(folder, version, integrity)
            return self._place(folder, version, found, "npm", pinned=integrity is not None)

    def install_file(self, path: Path, integrity: str | None) -> Made:
        """Take an engine from a file that `pack` made."""
        with self._new() as folder:
            # A copy: others could change the file between the check and the unpacking.
            copy = folder / "archive"
            _copy_file(path, copy)
            with copy.open("rb") as file:
                found = integrity_of(file)
                if integrity not in {None, found}:
                    raise _wrong_hash(str(path), found, integrity)
                file.seek(0)
                target = folder / _TOP
                target.mkdir(mode=0o700)
                unpack(file, target, path)
            copy.unlink()
            return self._place(target, version_in(target, path), found, "file", pinned=integrity is not None)

    def remove(self, name: str) -> None:
        """Remove an engine. A server that has loaded it does not notice."""
        going = f"{_GOING}{secrets.token_hex(4)}"
        os.rename(name, going, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        shutil.rmtree(going, dir_fd=self._descriptor)

    @property
    def history(self) -> "History":
        """What the last call has noted."""
        return read_history(self._config)

    def write_history(self, history: "History") -> None:
        """Note something for the next call."""
        new = f"{MAKING}{secrets.token_hex(4)}"
        with os.fdopen(os.open(new, files.NEW, 0o600, dir_fd=self._descriptor), "wb") as file:
            file.write(json.dumps(asdict(history)).encode())
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, _HISTORY, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    @contextlib.contextmanager
    def _new(self) -> Iterator[Path]:
        """Give a new private folder; what is left in it at the end is deleted."""
        room = shutil.disk_usage(self.folder).free
        if room < _ROOM:
            raise Problem(
                f"{self.folder} has {terminal.size(room)} left", f"free {terminal.size(_ROOM)} on that disk"
            )
        name = f"{MAKING}{secrets.token_hex(4)}"
        os.mkdir(name, 0o700, dir_fd=self._descriptor)
        try:
            yield self.folder / name
        finally:
            shutil.rmtree(name, ignore_errors=True, dir_fd=self._descriptor)

    def _refuse_if_there(self, version: str) -> None:
        if os.path.lexists(self.folder / version):
            raise Problem(
                f"engine {version} is already installed",
                f"`waportctl engine remove {version}` removes it",
                code="engine_exists",
            )

    def _place(self, folder: Path, version: str, integrity: str, source: str, *, pinned: bool) -> Made:
        """Try an engine that is complete, and give it its name."""
        self._refuse_if_there(version)
        _tidy(folder)
        for above in (folder.parent, folder):
            above.chmod(0o755)  # for the user that tries it; the parent's name is not an engine's
        library = try_engine(folder, self._config)
        if library != version:
            raise Problem(f"it says that it is version {library}, and not {version}", code="bad_engine")
        manifest = {
            "library": library,
            "integrity": integrity,
            "source": source,
            "installed_at": int(time.time()),
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (folder / engines.MANIFEST).write_text(text, "utf-8")
        (folder / engines.MANIFEST).chmod(0o644)
        # Before it gets its name: after a power cut an engine is complete or is not there.
        os.sync()
        target = folder.rename(self.folder / version)
        os.fsync(self._descriptor)
        return Made(version, target, integrity, source, pinned)


@contextlib.contextmanager
def opened(config: Config) -> Iterator[Shelf]:
    """Give the folder of the engines to one caller at a time, made where it is missing. Raises Problem.

    Nobody else may be able to write there, or to put another folder in its place.
    """
    folder = config.engines
    before = os.umask(0o022)
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(folder, files.LIST)
    except OSError as error:
        raise Problem(
            f"{folder} cannot be used: {error.strerror}", "it must be a folder that belongs to root"
        ) from error
    finally:
        os.umask(before)
    try:
        real = files.path_of(descriptor)
        if shared := files.open_to_others(real, os.geteuid()):
            raise folder_open(shared)
        _lock(folder, descriptor)
        for left in os.listdir(descriptor):  # noqa: PTH208  # of the folder that is open
            if left.startswith((MAKING, _GOING)):
                _remove_left_over(left, descriptor)
        yield Shelf(folder, config, descriptor)
    finally:
        os.close(descriptor)


def folder_open(path: Path) -> Problem:
    """Return the problem of a folder that others may write to."""
    return Problem(
        f"users other than root may write in {path}, and could change what every server runs",
        f"chown root:root {path} && chmod go-w {path}",
        code="folder_open",
    )


def _lock(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Problem(
            f"another `waportctl engine` is running in {folder}", "wait until it is done", code="busy"
        ) from None


def _remove_left_over(name: str, descriptor: int) -> None:
    """Remove what a killed call left."""
    with contextlib.suppress(NotADirectoryError):
        shutil.rmtree(name, dir_fd=descriptor)
        return
    os.unlink(name, dir_fd=descriptor)


# From the registry


def _fetch(folder: Path, version: str, integrity: str | None) -> str:
    """Have npm put a version into a folder; return the hash of its package.

    First the lock file alone, which holds the hash of each package as the registry has it; what the library's must be
    is known before anything of it is unpacked, and npm checks every package against that file.
    """
    if not (npm := shutil.which("npm")):
        raise Problem(
            "npm is not installed",
            "apt install npm; or pack the engine on another host, and install it with --file",
        )
    package = {"private": True, "dependencies": {LIBRARY: version}}
    (folder / "package.json").write_text(json.dumps(package), "utf-8")
    _npm(npm, folder, "install", "--package-lock-only")
    lock = json.loads((folder / "package-lock.json").read_text("utf-8"))
    found = _locked_hash(lock, version)
    if integrity not in {None, found}:
        raise _wrong_hash(f"{LIBRARY} {version} of the registry", found, integrity)
    _npm(npm, folder, "ci")
    shutil.rmtree(folder / ".npm", ignore_errors=True)
    return found


def _npm(npm: str, folder: Path, *arguments: str) -> None:
    command = [npm, *arguments, *_NPM_OPTIONS, f"--cache={folder / '.npm'}"]
    try:
        done = bounded.run(command, cwd=folder, umask=0o022, seconds=_NPM_LIMIT)
    except subprocess.TimeoutExpired:
        raise Problem(
            f"npm took more than {_NPM_LIMIT:.0f} s", "`npm ping` shows whether the registry can be reached"
        ) from None
    if done.returncode:
        said = re.findall(r"^npm (?:error|ERR!) (?!A complete log)(.*\S.*)$", done.stderr, re.MULTILINE)
        why = "; ".join(map(str.strip, said[:4])) or f"exit status {done.returncode}"
        raise Problem(
            f"npm {arguments[0]} failed: {terminal.plain(why)}",
            f"`npm view {LIBRARY} versions` shows what the registry has",
            code="npm_failed",
        )


def _locked_hash(lock: Any, version: str) -> str:
    """Return the hash of the library in a lock file that names one for every package."""
    packages = {path: package for path, package in lock["packages"].items() if path}
    for path, package in packages.items():
        if package.get("link") or not (package.get("inBundle") or package.get("integrity")):
            raise Problem(f"the registry names no hash for {terminal.plain(path)}", code="no_integrity")
    library = packages[f"node_modules/{LIBRARY}"]
    if library["version"] != version or not INTEGRITY.fullmatch(library["integrity"]):
        raise Problem(f"the registry names no SHA-512 for {LIBRARY} {version}", code="no_integrity")
    return str(library["integrity"])


def _wrong_hash(what: str, found: str, wanted: str | None) -> Problem:
    return Problem(
        f"{what} has the integrity {found}, and not {wanted}",
        "nothing was installed; check where the expected checksum comes from",
        code="wrong_integrity",
    )


# From a file


def _copy_file(path: Path, copy: Path) -> None:
    """Copy a file once, as it is now."""
    try:
        # Opening a pipe would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as source:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE:
                raise Problem(f"{path} is not a file of at most {terminal.size(_MAX_FILE)}")
            with copy.open("xb") as target:
                left = _MAX_FILE
                while left and (chunk := source.read(min(left, 1 << 20))):
                    target.write(chunk)
                    left -= len(chunk)
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}") from error


def unpack(file: IO[bytes], target: Path, path: Path) -> None:
    """Unpack an archive of files and folders; refuse it as a whole where there is anything else in it."""
    root = os.open(target, files.LIST)
    count = 0
    try:
        with Limited(fileobj=file) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
            for member in archive:
                count += 1
                if count > MAX_MEMBERS:
                    raise _refused(path, f"it holds more than {MAX_MEMBERS} files")
                parts = _parts(member, path)
                if member.isdir():
                    os.close(files.make_folder(root, parts))
                else:
                    content = archive.extractfile(member)
                    assert content is not None
                    files.write_new(root, parts, content)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        # Of a member that comes twice, too: its file is there already.
        raise _refused(path, terminal.plain(str(error))) from error
    finally:
        os.close(root)


class Limited(gzip.GzipFile):
    """Raises an error where it gives more than an engine can have; bytes between its files count, too."""

    left = _MAX_UNPACKED

    def read(self, size: int | None = -1) -> bytes:
        """Return what is unpacked; raise ValueError where that is too much."""
        content = super().read(size)
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"it holds more than {terminal.size(_MAX_UNPACKED)}")
        return content


def _parts(member: tarfile.TarInfo, path: Path) -> list[str]:
    """Return the names of a member's path below the top folder."""
    top, *parts = member.name.split("/")
    shown = ascii(member.name[:200])
    if member.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}:
        raise _refused(path, f"{shown} is neither a file nor a folder")
    if top == "package":
        raise _refused(path, "it is a package of npm, without what the library needs")
    bad = any(part in {"", ".", ".."} or not part.isprintable() or len(part.encode()) > 255 for part in parts)  # noqa: PLR2004
    if top != _TOP or bad or len(parts) > _MAX_DEPTH or not (parts or member.isdir()):
        raise _refused(path, f"{shown} lies outside of folder {_TOP}")
    return parts


def _refused(path: Path, why: str) -> Problem:
    return Problem(
        f"{path} is not an engine: {why}",
        "`waportctl engine pack VERSION` makes one, on any host that reaches the npm registry",
        code="bad_engine",
    )


def version_in(folder: Path, path: Path) -> str:
    """Return the version of the library in an unpacked engine; raise a Problem about ``path`` where there is none."""
    try:
        text = (folder / "node_modules" / LIBRARY / "package.json").read_text("utf-8")
        version = json.loads(text)["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(path, f"there is no {LIBRARY} in it") from error
    if not isinstance(version, str) or not engines.is_version(version):
        raise _refused(path, f"{version!r:.80} is not a version")
    return version


def pack(name: str, config: Config, output: Path, integrity: str | None) -> str:
    """Write an engine into a file, for hosts without a registry; return the file's hash.

    One that is installed is taken as it is; another one is fetched.
    """
    if os.path.lexists(output):
        raise Problem(f"{output} already exists", "name another file: --output FILE", code="file_exists")
    folder = config.engines / name
    installed = name in (engine.name for engine in engines.installed(config))
    with contextlib.ExitStack() as stack:
        if not installed:
            folder = stack.enter_context(_scratch())
            _fetch(folder, name, integrity)
            _tidy(folder)
            try_engine(folder, config)
        new = output.with_name(f".{output.name}.new")
        try:
            with new.open("x+b") as file:
                _archive(folder, file)
                # Of what was written: who may write in the output's folder could put another file there.
                file.seek(0)
                hashed = integrity_of(file)
            new.rename(output)
        except OSError as error:
            raise Problem(f"{output} cannot be written: {error.strerror}") from error
        finally:
            new.unlink(missing_ok=True)
    return hashed


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="waportd-engine-") as name:
        Path(name).chmod(0o755)  # for the user that tries it
        yield Path(name)


def _archive(folder: Path, file: IO[bytes]) -> None:
    """Write a folder as an archive; two of the same engine are the same, byte for byte."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = 0
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with (
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            # Where an engine came from is noted for this host only.
            if name.parts != (engines.MANIFEST,):
                archive.add(path, f"{_TOP}/{name}", recursive=False, filter=plain)


# Before it is used


def _tidy(folder: Path) -> None:
    """Give every file the rights that it needs and no more; refuse what is neither file nor folder."""
    for _, folders, others, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *others):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            is_folder = stat.S_ISDIR(found.st_mode)
            if not is_folder and not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
                raise Problem(f"{terminal.plain(name)} is neither a file nor a folder", code="bad_engine")
            if found.st_uid != os.geteuid():
                raise Problem(f"{terminal.plain(name)} belongs to another user", code="bad_engine")
            os.chmod(name, 0o755 if is_folder else 0o644, dir_fd=descriptor)


def sandbox_of(folder: Path) -> tuple[str, ...]:
    """Return what root puts before a command that loads the engine in a folder."""
    # Its own /tmp is another one than ours.
    return (*SANDBOX, f"--property=BindReadOnlyPaths={folder}")


def run_node(command: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run what loads an engine, with nothing of our environment. Raises Problem and subprocess.TimeoutExpired."""
    try:
        return bounded.run(
            command,
            cwd="/",
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent"},
            stdin=subprocess.DEVNULL,
            seconds=TRY_LIMIT_S + 10,
            **options,
        )
    except FileNotFoundError as error:
        raise Problem(f"{error.filename} is missing", "`waportctl doctor` shows what is missing") from error


def try_engine(folder: Path, config: Config) -> str:
    """Load an engine as a server would, and return the version that it says it has. Raises Problem.

    As root by a user that owns nothing: it is code that nobody here has read.
    """
    node, program = str(config.instances.node_path), str(shipped("server/engine.js"))
    sandbox = sandbox_of(folder) if os.geteuid() == 0 else ()
    try:
        done = run_node([*sandbox, node, program, str(folder)])
        said = json.loads(done.stdout.splitlines()[-1])
        why = said.get("error")
        if done.returncode == 0 and why is None:
            return str(said["library"])
    except subprocess.TimeoutExpired:
        why = f"loading it took more than {TRY_LIMIT_S:.0f} s"
    except (ValueError, IndexError, AttributeError, KeyError, RecursionError):
        why = (done.stderr.strip().splitlines() or ["no output"])[-1]
    raise Problem(
        f"the library cannot be used: {terminal.plain(str(why)[:500])}",
        "nothing was installed",
        Exit.FAILED,
        "bad_engine",
    )
