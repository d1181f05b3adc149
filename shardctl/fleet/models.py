"""The application's models: `module:attribute` -> metadata, mapped classes and tables, found by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import MetaData, Table, inspect
from sqlalchemy.orm import Mapper, registry

from shardctl.errors import ConfigError, UnknownName


@dataclass(frozen=True, slots=True)
class Models:
    """Mapped classes and tables of one or several metadatas."""

    metadatas: tuple[MetaData, ...]
    mappers: Mapping[str, Mapper[Any]] = field(default_factory=dict)
    """By class name; by `module.Class` where two classes have one name."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    """By name, with the schema in front where the model gives one."""

    def find(self, name: str) -> Mapper[Any] | Table:
        """Return the mapper of a class, or of a table that a class is mapped to, or else the table.

        Raises:
            UnknownName: Nothing has this name.
        """
        if name in self.mappers:
            return self.mappers[name]
        if name in self.tables:
            table = self.tables[name]
            return self.mapper_of(table) or table
        raise UnknownName(
            f"no mapped class or table named `{name}`",
            name=name,
            known=[*self.mappers, *self.tables],
        )

    def mapper_of(self, table: Table) -> Mapper[Any] | None:
        """Return the mapper of the class that is mapped to a table: the base class, where several are."""
        mapped = [mapper for mapper in self.mappers.values() if mapper.local_table is table]
        return next((mapper for mapper in mapped if mapper.inherits is None), mapped[0] if mapped else None)

    def class_name(self, mapper: Mapper[Any]) -> str:
        """Return the name by which `find` knows a mapper."""
        return next((name for name, known in self.mappers.items() if known is mapper), mapper.class_.__name__)


def load_models(targets: Iterable[str], *, folder: Path | None, where: str) -> Models:
    """Import models.

    Args:
        targets: Each `module:attribute`, the attribute a declarative base, a registry or a MetaData.
        folder: The folder of the shard map, importable like the working directory.
        where: What names the targets, for messages.

    Raises:
        ConfigError: A module cannot be imported, or an attribute is none of these.
    """
    metadatas: list[MetaData] = []
    registries: list[registry] = []
    for target in targets:
        value, module = load_attribute(target, folder=folder, where=where, what="models")
        if isinstance(value, MetaData):
            metadatas.append(value)
            registries.extend(registries_in(module, value))
        elif isinstance(value, registry):
            registries.append(value)
        elif isinstance(getattr(value, "registry", None), registry):
            registries.append(value.registry)
        else:
            raise ConfigError(
                f"{where}: `{target}` is a {type(value).__name__}, not a declarative base, a registry or a MetaData"
            )
    return collect(registries, metadatas)


def collect(registries: Iterable[registry], metadatas: Iterable[MetaData] = ()) -> Models:
    """Put the mapped classes and tables of registries and metadatas under their names."""
    all_registries = list(dict.fromkeys(registries))
    all_metadatas = list(dict.fromkeys([*metadatas, *(entry.metadata for entry in all_registries)]))
    mappers: dict[str, Mapper[Any]] = {}
    for entry in all_registries:
        entry.configure()
        for mapper in sorted(entry.mappers, key=lambda mapper: mapper.class_.__qualname__):
            all_metadatas.extend(
                table.metadata
                for table in mapper.tables
                if isinstance(table, Table) and table.metadata not in all_metadatas
            )
            name = mapper.class_.__name__
            mappers[f"{mapper.class_.__module__}.{name}" if name in mappers else name] = mapper
    tables = {table.key: table for metadata in all_metadatas for table in metadata.tables.values()}
    return Models(tuple(all_metadatas), mappers, tables)


def registries_in(module: ModuleType, metadata: MetaData | None = None) -> list[registry]:
    """Return the registries of the mapped classes that a module names."""
    found: list[registry] = []
    for value in list(vars(module).values()):
        mapper = inspect(value, raiseerr=False) if isinstance(value, type) else None
        if isinstance(mapper, Mapper):
            found.append(mapper.registry)
        elif isinstance(value, type) and isinstance(vars(value).get("registry"), registry):
            found.append(vars(value)["registry"])
    return [entry for entry in dict.fromkeys(found) if metadata is None or entry.metadata is metadata]


def load_attribute(target: str, *, folder: Path | None, where: str, what: str) -> tuple[Any, ModuleType]:
    """Import `module:attribute`.

    Raises:
        ConfigError: The module cannot be imported, or has no such attribute.
    """
    module_name, separator, attribute = target.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(f"{where}: `{target}` is not `module:attribute`", hint=f"for example `weather.{what}:Base`")
    for entry in (str(Path.cwd()), str(folder) if folder else ""):
        if entry and entry not in sys.path:
            sys.path.insert(0, entry)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{where}: cannot import `{module_name}` for `{target}`: {error}",
            hint="modules are looked for in the working directory, beside the shard map, and where Python looks",
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{where}: importing `{module_name}` for `{target}` failed: {type(error).__name__}: {error}"
        ) from error
    value: Any = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            known = [name for name in vars(module) if not name.startswith("_")]
            raise UnknownName(
                f"{where}: module `{module_name}` has no `{attribute}`", name=attribute, known=known
            ) from None
    return value, module
