"""The pager: what is longer than the terminal, a screen at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from typing import TextIO


def page(text: str, stream: TextIO) -> None:
    """Show text in `$PAGER`, or in `less`; without either, print it."""
    pager = os.environ.get("PAGER") or ("less -SRFX" if shutil.which("less") else "")
    if pager:
        with suppress(KeyboardInterrupt):  # the pager's own
            subprocess.run(pager, shell=True, input=text.encode(), stdout=stream, check=False)
    else:
        stream.write(text)
        stream.flush()
