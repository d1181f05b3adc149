"""Reading over several shards through SQLAlchemy's own statements: sessions whose SELECTs give one answer."""

from shardctl.query.orm.session import MergingSession

__all__ = ["MergingSession"]
