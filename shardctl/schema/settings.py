"""Alembic's settings for a migrations directory: an alembic.ini, or `[tool.alembic]` of a pyproject.toml."""

from __future__ import annotations

import configparser
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.util import coerce_resource_to_filename

from shardctl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the settings of a migrations directory are; none is fine."""

    folder: Path
    ini: Path | None = None
    section: str = "alembic"
    pyproject: Path | None = None

    @property
    def is_found(self) -> bool:
        return self.ini is not None or self.pyproject is not None

    @property
    def base(self) -> Path:
        """The folder that relative paths in the settings start from."""
        file = self.ini or self.pyproject
        return file.parent if file else self.folder.parent

    def new_config(self) -> Config:
        """Return the settings for one run of env.py: it may change them."""
        toml: dict[str, Any] = {"toml_file": str(self.pyproject)} if self.pyproject and _reads_toml() else {}
        ini = str(self.ini) if self.ini else None
        config = Config(ini, ini_section=self.section, stdout=sys.stderr, output_buffer=sys.stderr, **toml)
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        return config

    def alembic_command(self, arguments: str) -> str:
        """Return the command line that runs Alembic itself on this directory."""
        name = f" -n {self.section}" if self.section != "alembic" else ""
        if self.ini is None or self.ini == Path.cwd() / "alembic.ini":
            return f"alembic{name} {arguments}"
        ini = self.ini.relative_to(Path.cwd()) if self.ini.is_relative_to(Path.cwd()) else self.ini
        return f"alembic -c {ini}{name} {arguments}"


def find_settings(folder: Path) -> Settings:
    """Find the settings whose `script_location` is this directory, in it or beside it.

    Raises:
        ConfigError: An alembic.ini there cannot be read.
    """
    pyproject = _find_pyproject(folder)
    for ini in (folder / "alembic.ini", folder.parent / "alembic.ini"):
        for section, location in _script_locations(ini):
            if _is_folder(location, ini.parent, folder):
                return Settings(folder, ini, section, pyproject)
    beside = folder.parent / "alembic.ini"
    # `alembic init --template pyproject` leaves an alembic.ini with nothing but a database URL and logging.
    is_rest = pyproject is not None and beside.is_file() and not list(_script_locations(beside))
    return Settings(folder, beside if is_rest else None, pyproject=pyproject)


def _script_locations(ini: Path) -> Iterator[tuple[str, str]]:
    parser = configparser.ConfigParser({"here": ini.parent.as_posix()})
    try:
        parser.read(ini, encoding="utf-8")
        for section in parser.sections():
            location = parser.get(section, "script_location", fallback=None)
            if location is not None:
                yield section, location
    except configparser.Error as error:
        raise ConfigError(f"{ini.name}: {error.message.splitlines()[0]}") from error


def _find_pyproject(folder: Path) -> Path | None:
    pyproject = folder.parent / "pyproject.toml"
    if not _reads_toml() or not pyproject.is_file():
        return None
    try:
        values = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None
    location = values.get("tool", {}).get("alembic", {}).get("script_location")
    if not isinstance(location, str):
        return None
    location = location.replace("%(here)s", folder.parent.as_posix())
    return pyproject if _is_folder(location, folder.parent, folder) else None


def _reads_toml() -> bool:
    return "toml_file" in signature(Config).parameters  # Alembic 1.16 and later


def _is_folder(location: str, base: Path, folder: Path) -> bool:
    if ":" in location and not Path(location).is_absolute():
        try:
            location = str(coerce_resource_to_filename(location))
        except (ImportError, ValueError):
            return False
    return (base / location).resolve() == folder.resolve()
