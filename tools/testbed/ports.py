"""Ports for tests: none that the kernel gives to who connects, or asks for any (ip(7), ip_local_port_range: from 32768).

Such a port may be free now, and another process has it a moment later. Unit tests have blocks of ports of their own,
from 20001 to 32000 (tests/unit/support.py); these are the ones between.
"""

import contextlib
import random
import socket
from typing import Final

PORTS: Final = range(32_001, 32_768)


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody uses at an address of this machine. Raises OSError where there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket(family) as holder, contextlib.suppress(OSError):
            holder.bind((address, port))
            return port
    raise OSError(f"no port of {address} is free")
