"""The users of other hosts, for the list of all: their hosts are asked, all at once.

Those of a host that does not answer are shown as the fleet knows them.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp import web

from waportd.api import documents
from waportd.api.access import handed_over
from waportd.api.documents import UserDocument
from waportd.api.json_schema import members
from waportd.errors import HostRefused, HostSilent, LoginComing
from waportd.host import Fleet, HostCall
from waportd.model import Assignment, Process, ProcessState
from waportd.registry import Instance

LIMIT_S: Final = 3.0
"""Seconds that a host has to list its users; a measurement of all of them ends within that, too."""

Row = Mapping[str, Any]
"""The document of a user, as JSON."""


async def rows(request: web.Request, fleet: Fleet, hosts: Iterable[str]) -> list[Row]:
    """Return the users of these hosts, each of which answers as it would itself. Raises WaportdError."""
    found = await asyncio.gather(*(_of_host(request, fleet, host) for host in hosts))
    return [row for each in found for row in each]


async def _of_host(request: web.Request, fleet: Fleet, host: str) -> list[Row]:
    query = f"?{request.query_string}" if request.query_string else ""
    try:
        async with (
            asyncio.timeout(LIMIT_S),
            fleet.call(host, HostCall("GET", f"/v1/users{query}", handed_over(request))) as answer,
        ):
            if answer.status == web.HTTPOk.status_code:
                return list(json.loads(await answer.read())["users"])
            silence = f"host {host} answers with the HTTP status {answer.status}"
    except (HostSilent, HostRefused) as error:
        silence = error.message
    except TimeoutError:
        silence = f"host {host} did not list its users within {LIMIT_S:g} s"
    except (aiohttp.ClientError, OSError, ValueError, TypeError, KeyError):
        silence = f"the answer of host {host} is not complete, or is not understood"
    return [members(unreachable(one, host, silence)) for one in fleet.assignments(host)]


def coming(fleet: Fleet) -> list[UserDocument]:
    """Return the users who come to this host, and whose logins are not there yet."""
    return [moving(one, fleet.name) for one in fleet.coming()]


def moving(assignment: Assignment, host: str) -> UserDocument:
    """Return what is shown of a user who comes to a host, and whose login is not there yet."""
    error = LoginComing(assignment.user, host)
    process = Process(ProcessState.MOVING, message=error.message, cause=error.code)
    return documents.user(Instance(assignment, process, host=host))


def unreachable(assignment: Assignment, host: str, silence: str) -> UserDocument:
    """Return what is shown of a user whose host does not answer, for the reason ``silence``."""
    process = Process(
        ProcessState.UNREACHABLE,
        message=silence,
        cause=HostSilent.code,
        hint=f"look whether host {host} is up, and reached: `waportctl doctor` there and here",
    )
    return documents.user(Instance(assignment, process, host=host))
