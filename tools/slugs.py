"""Names of headings in links, for mkdocs."""

import re


def github(heading: str, separator: str) -> str:
    """Return a heading's anchor as GitHub makes it, so that a link works there and on the site."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)
