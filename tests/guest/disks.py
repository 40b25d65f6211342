"""Disks that are full."""

import contextlib


@contextlib.contextmanager
def small_disk(site, folder, size, let_go, take_up):
    """Put a folder on a disk of its own; the commands end and begin what works in it."""
    kept = "/var/tmp/kept"
    move_in = f"mount -t tmpfs -o size={size} tmpfs {folder} && cp -a {kept}/. {folder}/"
    move_out = f"umount {folder} && find {folder} -mindepth 1 -delete && cp -a {kept}/. {folder}/"
    script = f"set -e; {let_go} >/dev/null; rm -rf {kept}; cp -a {folder} {kept}; {{}}; {take_up} >/dev/null"
    site.machine.run("sh", "-c", script.format(move_in))
    try:
        yield
    finally:
        site.machine.run("sh", "-c", script.format(move_out))


def fill(site, folder):
    site.machine.run("sh", "-c", f"cat /dev/zero > {folder}/filling 2>/dev/null; true")
    free = site.machine.run("df", "--output=avail", folder).stdout.split()[-1]
    assert int(free) == 0


def make_room(site, folder):
    site.machine.run("rm", f"{folder}/filling")
