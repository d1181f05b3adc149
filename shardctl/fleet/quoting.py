"""Names as an engine reads them."""

from __future__ import annotations


def quoted_name(name: str, engine: str) -> str:
    """Return a name without a schema as an identifier, whatever is in it.

    SQLAlchemy's preparer doubles `%` besides, which is right only where a driver is given parameters.
    """
    mark = "`" if engine == "mysql" else '"'
    return mark + name.replace(mark, mark * 2) + mark
