"""Ports for tests: none that the kernel gives to who connects, or asks for any (ip(7), ip_local_port_range: from 32768).

Such a port may be free now, and another process has it a moment later. Unit tests have blocks of ports of their own,
from 20001 to 32000 (tests/unit/support.py); these are the ones between.
"""

import contextlib
import ipaddress
import os
import random
import socket
from typing import Final

PORTS: Final = range(32_001, 32_768)


def own_address(number: int = 0) -> str:
    """Return a loopback address that no other process of the tests uses: one of four.

    There, a port on which this process has stopped listening stays free; elsewhere another one may have it by then.
    """
    return str(ipaddress.IPv4Address("127.0.0.0") + os.getpid() * 4 + number)


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody uses at an address of this machine. Raises OSError where there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket(family) as holder, contextlib.suppress(OSError):
            holder.bind((address, port))
            return port
    raise OSError(f"no port of {address} is free")
