"""The service: its configuration, whether it answers, and how its users are."""

import os
from pathlib import Path

from waportd import __version__
from waportd.accounts import daemon
from waportd.advice import advise, check_readable, loopback_port
from waportd.cli import terminal
from waportd.cli.checks.finding import Findings, fail, ok, skip, warn
from waportd.cli.checks.host import Host
from waportd.cli.following import waits_for_passkey
from waportd.cli.locate import CONFIG, read_config
from waportd.cli.users import waiting
from waportd.client import Client, WaportdClientError, WaportdUnavailable
from waportd.config import InvalidConfig
from waportd.errors import ConfigError
from waportd.model import Port
from waportd.model import User as Owner
from waportd.units import (
    environment_owners,
    environment_webhooks,
)


def configuration(host: Host) -> Findings:
    """Check the file that the daemon reads."""
    file = host.config_file
    if file.exists() and not os.access(file, os.R_OK):
        yield skip(f"{file} cannot be read by this user; defaults are assumed below", "sudo waportctl doctor")
        return
    try:
        if file == CONFIG:
            check_readable(file)
        read_config(file)
    except InvalidConfig as error:
        fix = "fix the file, then: waportctl config check && systemctl restart waportd"
        yield fail(error.message, fix)
        return
    except ConfigError as error:
        yield fail(error.message, error.hint)
        return
    if file == CONFIG and not file.exists() and daemon() is not None:
        fix = "create an empty one: install -m 640 -g waportd /dev/null " + str(file)
        yield fail(f"{file} is missing; the packaged service does not start without it", fix)
        return
    yield ok(f"{file} is valid" if file.exists() else "no configuration file; using defaults")
    owners = {Port(user.port): Owner(user.user) for user in host.users or []}
    folder = host.config.store.instances
    for advice in advise(host.config, owners or environment_owners(folder), environment_webhooks(folder)):
        yield warn(f"{advice.key}: {advice.message}", advice.hint)
    if host.system and not host.config.api.allow_users:
        yield warn(
            "every local user may call every user's server: api.allow_users is empty",
            f"in {file}: api: {{allow_users: [www-data]}}; then: systemctl reload waportd",
        )


def api(host: Host) -> Findings:
    """Check whether the daemon answers this user."""
    try:
        with Client(host.socket) as client:
            health = client.health()
    except WaportdUnavailable as error:
        yield fail(error.message, error.hint)
        return
    except WaportdClientError as error:
        yield fail(f"{host.socket} answers: {error}", error.hint)
        return
    if health.version != __version__:
        yield warn(
            f"the running daemon is version {health.version}; {__version__} is installed",
            "systemctl restart waportd (sessions continue)",
        )
    else:
        yield ok(f"{host.socket} answers, version {__version__}")
    if alarm := health.alarm:
        build = f" (WhatsApp Web {alarm.build})" if alarm.build else ""
        yield fail(f"for {terminal.age(alarm.since)}: {alarm.message}{build}", alarm.hint)
    if ports := health.unassigned_ports:
        listed = ", ".join(map(str, ports))
        yield warn(
            f"running servers without a user: ports {listed}", f"systemctl stop whatsapp@{ports[0]}.socket"
        )


def ports(host: Host) -> Findings:
    """Check for ports that others hold, or may come to hold."""
    rules = host.config.ports
    own = loopback_port(host.config.instances.webhook_url)
    taken = {user.port for user in host.users or []}
    may_be_given = own is not None and (own in rules.range or own in rules.overflow)
    if may_be_given and own not in rules.reserved and own not in taken:
        yield warn(
            f"the web app's port {own} may be given to a user while the web app does not run",
            f"in {host.config_file}: ports: {{reserved: [{own}]}}; then: systemctl reload waportd",
        )
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError):
        low = None
    if low is not None and low <= rules.overflow.last:
        yield warn(
            f"ports.overflow ({rules.overflow}) runs into the ports of outgoing connections (from {low})",
            f'sysctl -w net.ipv4.ip_local_port_range="{rules.overflow.last + 1} 60999", or lower ports.overflow',
        )
    held = [user for user in host.users or [] if user.process.cause == "port_held"]
    for user in held:
        yield fail(
            f"user {user.user}: {user.process.message}",
            f"sudo waportctl port {user.port} --end-stale, then: waportctl start {user.user}",
        )
    if host.users is None:
        yield skip("unknown which ports other programs hold: waportd does not answer")
    elif not held:
        yield ok(f"no assigned port is held by another program ({len(host.users)} assigned)")


def servers(host: Host) -> Findings:
    """Check for users whose server or session is in trouble."""
    if host.users is None:
        return
    troubled = 0
    for user in host.users:
        process, session = user.process, user.session
        if process.cause == "port_held":
            continue  # the check of the ports reports it
        if process.state in {"failed", "crash_loop"}:
            fix = process.hint or f"waportctl logs {user.user}"
            yield fail(f"user {user.user}: {process.message}", fix)
        elif user.summary.cause == "not_answering":
            yield fail(f"user {user.user}: {user.summary.message}", f"waportctl restart {user.user}")
        elif session is not None and waits_for_passkey(session):
            yield warn(f"user {user.user}: {session.message}", f"waportctl passkey {user.user}")
        elif session is not None and session.state in {"error", "passkey_required"} and session.answering:
            fix = session.hint or f"waportctl logs {user.user}"
            yield fail(f"user {user.user}: {session.message}", fix)
        elif user.linked and process.state == "stopped" and user.desired == "running":
            yield warn(
                f"user {user.user} is linked and does not run: {process.message}",
                f"waportctl start {user.user}",
            )
        else:
            continue
        troubled += 1
    if not troubled:
        running = sum(user.process.state == "running" for user in host.users)
        yield ok(f"{len(host.users)} users, {running} running servers")


def webhooks(host: Host) -> Findings:
    """Check whether the web app takes the messages of running users, and who can read the webhook's secrets."""
    instances, file = host.config.instances, host.config_file
    if (instances.webhook_secret or instances.webhook_headers) and file.stat().st_mode & 0o004:
        yield fail(
            f"everybody on this host can read {file}, which holds the webhook's secret or headers",
            f"chmod o= {file}; if others may have read it, change the secrets, too",
        )
    if host.users is None:
        return
    troubled = False
    for user in host.users:
        session = user.session
        if session is None or not session.answering:
            continue
        webhook = session.webhook
        lost = f" ({webhook.dropped} lost since the server started)" if webhook.dropped else ""
        if webhook.undelivered:
            what = "1 message was" if webhook.undelivered == 1 else f"{webhook.undelivered} messages were"
            said = f"user {user.user}: {what} given up and kept as undelivered"
            yield warn(said, f"when the web app takes messages: waportctl messages redeliver {user.user}")
        if webhook.stuck:
            own = f"webhook_url of user {user.user}" if user.own_webhook else "instances.webhook_url"
            said = f"user {user.user}: {waiting(webhook)}{lost}"
            yield fail(said, f"check {own}, and the program that answers there")
        elif webhook.error is not None:
            own = f"webhook_url of user {user.user}" if user.own_webhook else "instances.webhook_url"
            said = f"user {user.user}: the web app does not take the messages: {webhook.error}{lost}"
            yield warn(said, f"check {own}, and the program that answers there")
        elif webhook.dropped:
            said = f"user {user.user}: the web app did not take all messages{lost}"
            yield warn(said, f"waportctl logs {user.user}")
        trouble = webhook.stuck or webhook.error is not None or webhook.dropped or webhook.undelivered
        troubled = troubled or bool(trouble)
    if not troubled:
        yield ok("no message was refused or lost")
