"""How many bytes a connection has received, as the operating system counts them: drivers do not say."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Any

_BYTES_RECEIVED = 128
"""Where `struct tcp_info` of Linux has `tcpi_bytes_received`, since 4.1."""


def bytes_received(driver_connection: Any) -> int | None:
    """Return the bytes that have come in over a connection since it was made; None where that is not known.

    Known on Linux, for drivers that show their socket, over TCP: encrypted bytes count as they are.
    """
    if sys.platform != "linux":
        return None
    number = getattr(driver_connection, "fileno", None) or getattr(
        getattr(driver_connection, "_sock", None), "fileno", None
    )
    if number is None:
        return None
    try:
        with socket.socket(fileno=os.dup(number())) as copy:
            facts = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except Exception:  # no socket of this kind, or none any more: each driver says so in its own way
        return None
    if len(facts) < _BYTES_RECEIVED + 8:
        return None
    return int(struct.unpack_from("Q", facts, _BYTES_RECEIVED)[0])
