"""The proxy of a user's browser to WhatsApp: which one, and how it is shown without its password."""

import re
from typing import Final

from waportd.config import Config
from waportd.model import Assignment

AUTO: Final = "auto"
"""The proxy in the environment of the unit (HTTPS_PROXY), else no proxy."""
NONE: Final = "none"

_PASSWORD = re.compile(r"(?<=://)([^:@/]*):[^@/]*(?=@)")
_HIDDEN: Final = "***"


def chosen(assignment: Assignment, config: Config) -> str:
    """Return the proxy for the browser's next start: ``auto``, ``none``, or a URL that may hold a password."""
    return config.instances.proxy if assignment.proxy is None else assignment.proxy


def shown(proxy: str) -> str:
    """Return a proxy without its password: ``http://ana:***@proxy:3128``."""
    return _PASSWORD.sub(rf"\1:{_HIDDEN}", proxy)


def has_password(proxy: str) -> bool:
    """Return whether it holds a password."""
    return shown(proxy) != proxy
