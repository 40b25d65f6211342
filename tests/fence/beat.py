"""In place of a user's server: a program that writes the time, while it runs. ``deaf`` beside it: SIGTERM is ignored.

beat.py PORT
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

PORT = sys.argv[1]
BEATS = Path(__file__).with_name(f"{PORT}.beats")


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text, os.environ["NOTIFY_SOCKET"])


if BEATS.with_suffix(".deaf").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with BEATS.open("a") as beats:
    while True:
        beats.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME)}\n")
        beats.flush()
        notify(b"READY=1")  # which says nothing new the second time
        time.sleep(0.02)
