"""The programs and modules of the host: Python's, node, and the servers' own code."""

import importlib.util
import json

from waportd.cli.checks.finding import Findings, fail, ok, skip
from waportd.cli.checks.host import Host, call, first_line

_NODE_MIN = (18, 20)


MODULES = {
    "aiohttp": "python3-aiohttp",
    "gi": "python3-gi",
    "prometheus_client": "python3-prometheus-client",
    "psutil": "python3-psutil",
    "pydbus": "python3-pydbus",
    "rich": "python3-rich",
    "segno": "python3-segno",
    "systemd": "python3-systemd",
    "yaml": "python3-yaml",
}


_PARSE = """
for (const file of process.argv.slice(1)) {
    try {
        const text = fs.readFileSync(file, 'utf8').replace(/^#!.*/, '');
        vm.compileFunction(text, ['exports', 'require', 'module', '__filename', '__dirname'], { filename: file });
    } catch (error) {
        console.log(JSON.stringify([error.stack.split('\\n')[0], String(error)]));
    }
}
"""
"""Does what ``node --check`` does, for many files in the time of one."""


def python_modules(_: Host) -> Findings:
    """Check what the daemon imports."""
    missing = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        yield fail(f"Python modules are missing: {', '.join(missing)}", f"apt install {' '.join(missing)}")
    else:
        yield ok("all Python modules are installed")


def node(host: Host) -> Findings:
    """Check the program that runs the servers."""
    path = host.config.instances.node_path
    status, said = call(path, "--version")
    if status != 0:
        yield fail(f"{path} cannot be run: {first_line(said)}", "apt install nodejs")
        return
    version = said.strip().lstrip("v")
    try:
        known = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        known = _NODE_MIN
    if known < _NODE_MIN:
        yield fail(f"node {version} is too old: 18.20 is needed", "apt install nodejs")
    else:
        yield ok(f"{path}, version {version}")


def script(host: Host) -> Findings:
    """Check whether node can read the server's script and its parts."""
    path, program = host.config.instances.script_path, host.config.instances.node_path
    if not path.is_file():
        yield fail(f"{path} is missing", "apt install --reinstall waportd")
        return
    files = [path, *sorted((path.parent / "server").glob("*.js"))]
    status, said = call(program, "-e", _PARSE, *files)
    broken = [json.loads(line) for line in said.splitlines()] if status == 0 else []
    for place, error in broken:
        yield fail(f"{place}: {error}", "apt install --reinstall waportd")
    if status != 0:
        yield skip(f"{path} cannot be checked without node")
    elif not broken:
        yield ok(f"{path} and {len(files) - 1} parts are valid JavaScript")


def node_modules(host: Host) -> Findings:
    """Check for whatsapp-web.js in the version that the servers are made for."""
    folder = host.config.instances.script_path.parent
    reinstall = "apt install --reinstall waportd, or in a checkout: npm ci"
    try:
        wanted = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]["whatsapp-web.js"]
        found = json.loads((folder / "node_modules/whatsapp-web.js/package.json").read_text("utf-8"))[
            "version"
        ]
    except (OSError, ValueError, KeyError) as error:
        yield fail(f"whatsapp-web.js is missing below {folder}: {error}", reinstall)
        return
    if wanted != found:
        yield fail(f"whatsapp-web.js is {found}, but {wanted} is needed", reinstall)
        return
    # Loaded as the server loads it, so that a missing module of a module shows.
    program = host.config.instances.node_path
    status, said = call(program, "-e", "require('whatsapp-web.js')", folder=folder)
    if status is None:
        yield skip(f"whatsapp-web.js {found} cannot be loaded without node")
    elif status:
        why = next((line for line in said.splitlines() if "Error" in line), "it cannot be loaded")
        yield fail(f"whatsapp-web.js {found}: {why}", reinstall)
    else:
        yield ok(f"whatsapp-web.js {found}")
