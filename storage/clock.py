"""The time of recording, in one place so that tests can set it. No result depends on it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Now, in UTC, without a zone: how every table keeps time."""
    return datetime.now(UTC).replace(tzinfo=None)
