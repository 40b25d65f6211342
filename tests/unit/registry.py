"""Small packages that look like whatsapp-web.js and what it needs, and an npm registry that has them."""

import base64
import hashlib
import http.server
import io
import json
import tarfile
import threading

CLIENT = """\
class Client {
    initialize() {} inject() {} attachEventListeners() {} initWebVersionCache() {} requestPairingCode() {}
    sendMessage() {} getChatById() {} getMessageById() {} getContactLidAndPhone() {}
    getNumberId() {} getState() {} getWWebVersion() {} destroy() {}
}
module.exports = Client;
require('puppeteer');
"""
LOCAL_AUTH = """\
module.exports = class LocalAuth {
    setup() {} beforeBrowserInitialized() {} afterBrowserInitialized() {} onAuthenticationNeeded() {}
    logout() {} destroy() {}
};
"""


def packages(version, client=CLIENT):
    """Return the files of a library of that version, and of what it needs, by package and path."""

    def package(name, **more):
        about = {"name": name, "version": "1.0.0", **more}
        return {"package.json": json.dumps(about), "index.js": "exports.connect = () => {};\n"}

    return {
        "whatsapp-web.js": {
            **package("whatsapp-web.js", version=version, dependencies={"puppeteer": "^1.0.0"}),
            "src/Client.js": client,
            "src/authStrategies/LocalAuth.js": LOCAL_AUTH,
        },
        "puppeteer": package(
            "puppeteer",
            dependencies={"puppeteer-core": "1.0.0"},
            bin={"puppeteer": "index.js"},
            scripts={"install": "echo hostile > ../../ran", "postinstall": "echo hostile > ../../ran"},
        ),
        "puppeteer-core": {
            **package("puppeteer-core", dependencies={"debug": "1.0.0"}),
            "internal/node/PipeTransport.js": "exports.PipeTransport = class {};\n",
        },
        "debug": package("debug"),
    }


def install(folder, version, client=CLIENT):
    """Put a library and what it needs where npm would."""
    for name, files in packages(version, client).items():
        for path, text in files.items():
            file = folder / "node_modules" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
    return folder


def archive(members):
    """Return a gzipped archive of members: (name, content or type, what a link leads to)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, content, *link in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.size = len(content.encode())
                file.addfile(member, io.BytesIO(content.encode()))
            else:
                member.type = content
                member.linkname = link[0] if link else ""
                file.addfile(member)
    return packed.getvalue()


def sri(content):
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"


class Registry:
    """An npm registry on loopback."""

    def __init__(self):
        self.documents = {}
        self.tarballs = {}
        self.asked = []
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                registry.asked.append(self.path)
                name = self.path.lstrip("/").partition("?")[0]
                content = registry.tarballs.get(name)
                if content is None and name in registry.documents:
                    content = json.dumps(registry.documents[name]).encode()
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(content or b"{}")

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def publish(self, version, **how):
        """Offer a library of that version; return the hash of its package."""
        for name, files in packages(version, **how).items():
            content = archive((f"package/{path}", text) for path, text in files.items())
            about = json.loads(files["package.json"])
            file = f"{name}/-/{name}-{about['version']}.tgz"
            self.tarballs[file] = content
            about["dist"] = {"tarball": self.url + file, "integrity": sri(content)}
            document = self.documents.setdefault(name, {"name": name, "versions": {}, "dist-tags": {}})
            document["versions"][about["version"]] = about
            document["dist-tags"]["latest"] = about["version"]
        return self.documents["whatsapp-web.js"]["versions"][version]["dist"]["integrity"]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
