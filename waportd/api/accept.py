"""Which of the offers a caller prefers, by Accept, Accept-Encoding and Accept-Language (RFC 9110, section 12)."""

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from aiohttp import web

T = TypeVar("T")

_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def preferences(header: str) -> Iterator[tuple[str, float]]:
    """Yield what a header names, in lower case, each with its quality: from 0 to 1, and 0 where it is malformed."""
    for part in header.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        yield name, float(quality) if _QUALITY.fullmatch(quality) else 0.0


def best_type(request: web.Request, offers: Mapping[T, str]) -> T:
    """Return which of the offered media types the caller prefers; of equals the first."""
    ranges = dict(preferences(",".join(request.headers.getall("Accept", []))))

    def quality_of(media_type: str) -> float:
        """Return the quality of the range that fits a media type best (section 12.5.1)."""
        fitting = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((ranges[name] for name in fitting if name in ranges), 0.0)

    return max(offers, key=lambda offer: quality_of(offers[offer]))


def takes_gzip(request: web.Request) -> bool:
    """Return whether the caller's ``Accept-Encoding`` names gzip."""
    codings = dict(preferences(request.headers.get("Accept-Encoding", "")))
    return codings.get("gzip", 0.0) > 0


def best_language(header: str, offers: Mapping[str, T], default: T) -> T:
    """Return what is offered for the preferred language, whatever its region; of equals the first."""
    ranked = sorted(preferences(header), key=lambda each: -each[1])
    tags = (tag.partition("-")[0] for tag, _ in ranked)
    return next((offers[tag] for tag in tags if tag in offers), default)
