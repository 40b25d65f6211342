"""WhatsApp's page as a server has found it: what a person is shown of that."""

from waportd.client import Upstream


def rows(found: Upstream) -> list[tuple[str, str | None]]:
    """Return what runs, and what it lacks: names and values to show below each other."""
    lacking: dict[str, list[str]] = {}
    for each in found.missing:
        lacking.setdefault(each.feature, []).append(f"{each.module} {each.member} ({each.found})")
    failed = [shim for shim, outcome in found.shims.items() if outcome == "failed"]
    return [
        ("WhatsApp Web", found.build),
        ("Pinned page", found.pinned),
        ("Library", f"whatsapp-web.js {found.library} ({found.engine})" if found.library else None),
        *((f"No {feature}", ", ".join(members)) for feature, members in lacking.items()),
        ("Failed shims", ", ".join(failed) or None),
    ]
