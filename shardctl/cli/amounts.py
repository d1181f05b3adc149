"""Sizes, counts and ages as people read them."""

from __future__ import annotations

import datetime

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def size_text(size: float) -> str:
    """Return bytes in the largest unit that fits."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def age_text(seconds: float) -> str:
    """Return how long ago something was, in its largest unit."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def latency_text(latency_ms: float) -> str:
    """Return how long an answer took, in two digits or three."""
    if latency_ms >= 1000:
        return f"{latency_ms / 1000:.1f} s"
    return f"{latency_ms:.0f} ms" if latency_ms >= 10 else f"{latency_ms:.1f} ms"


def ago(when: datetime.datetime) -> str:
    """Return how long ago a moment was."""
    return f"{age_text((datetime.datetime.now(datetime.UTC) - when).total_seconds())} ago"


def bar(share: float, width: int, *, is_plain: bool) -> str:
    """Draw a part of a whole.

    Args:
        share: From 0 to 1.
        width: Of the whole, in characters.
        is_plain: Whether only ASCII can be written.
    """
    if is_plain:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
