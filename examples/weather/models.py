"""Weather stations of four continents and what they reported: the model of SQLAlchemy's sharding examples.

A location lives on the shard of its continent, and a report lives with its location. Both keys count up on each shard
by themselves, so two shards may hold a report with the same key.
"""

from __future__ import annotations

import datetime

from sqlalchemy import Double, ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class WeatherLocation(Base):
    __tablename__ = "weather_locations"

    id: Mapped[int] = mapped_column(primary_key=True)
    continent: Mapped[str] = mapped_column(String(32))
    city: Mapped[str] = mapped_column(String(64))

    reports: Mapped[list[Report]] = relationship(back_populates="location")

    def __init__(self, continent: str, city: str) -> None:
        self.continent = continent
        self.city = city


class Report(Base):
    __tablename__ = "weather_reports"

    id: Mapped[int] = mapped_column(primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("weather_locations.id"))
    temperature: Mapped[float] = mapped_column(Double)
    report_time: Mapped[datetime.datetime] = mapped_column(default=datetime.datetime.now, index=True)

    location: Mapped[WeatherLocation] = relationship(back_populates="reports")

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
