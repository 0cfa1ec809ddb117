"""A config file and its overrides in; frozen, checked settings out.

A config is a python file with `get_config(arg)` that returns a ConfigDict. Every key is
a field of the dataclasses of settings.py; a key that is none of them is an error.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib.machinery
import traceback
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_collections

from insgenel_jax.models.fields import expected_type
from insgenel_jax.training.checks import find_contradictions, find_too_small
from insgenel_jax.training.settings import (
    TASKS,
    Config,
    ConfigError,
    GeneratorData,
    RetrieverData,
)


def load(config: str, overrides: Iterable[str] = ()) -> Config:
    """Read `path.py` or `path.py:arg`, apply `key=value` overrides, check it all."""
    path, _, arg = config.partition(":")
    tree = _run_config_file(path, arg)
    for override in overrides:
        _override(tree, override)
    return parse(tree.to_dict())


def _run_config_file(path: str, arg: str) -> ml_collections.ConfigDict:
    """The result of get_config(arg) of a python file, whose errors are ConfigErrors."""
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such config file")
    loader = importlib.machinery.SourceFileLoader("insgenel_jax_config", path)
    module = types.ModuleType(loader.name)
    try:
        loader.exec_module(module)
        tree = module.get_config(arg) if arg else module.get_config()
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        inside = traceback.extract_tb(error.__traceback__)
        at = next((f":{f.lineno}" for f in reversed(inside) if f.filename == path), "")
        raise ConfigError(
            f"{path}{at}: cannot be run for a config: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(tree, ml_collections.ConfigDict):
        raise ConfigError(
            f"{path}: expected a ConfigDict of get_config, found {type(tree).__name__}"
        )
    return tree


def parse(record: dict[str, Any]) -> Config:
    """The settings in a nested dict. Raises ConfigError that names what is wrong."""
    task = record.get("task")
    if task not in TASKS:
        raise ConfigError(f"task: expected one of {TASKS}, found {task!r}")
    data = GeneratorData if task == "generator" else RetrieverData
    config = _build(Config, record, "", data)
    model = config.model
    if model.pretrained and not model.tokenizer:
        model = dataclasses.replace(model, tokenizer=model.pretrained)
        config = dataclasses.replace(config, model=model)
    if problems := [*find_too_small(config), *find_contradictions(config)]:
        raise ConfigError("; ".join(problems))
    return config


def _override(tree: ml_collections.ConfigDict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: expected key=value")
    *sections, name = key.split(".")
    at = tree
    for depth, section in enumerate(sections):
        if not isinstance(at.get(section), ml_collections.ConfigDict):
            raise _unknown(".".join(sections[: depth + 1]), key, _leaves(tree))
        at = at[section]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    with at.unlocked(), at.ignore_type():
        at[name] = value


def _build(cls: type, record: dict[str, Any], where: str, data: type) -> Any:
    """The dataclass `cls` of a record. `where`: the keys above it, for errors."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in record:
        if key not in fields:
            raise _unknown(where + key, where + key, [where + name for name in fields])
    hints, values = typing.get_type_hints(cls), {}
    for name, field in fields.items():
        hint = data if (cls, name) == (Config, "data") else hints[name]
        if name in record:
            values[name] = _read(record[name], hint, where + name, data)
        elif field.default is dataclasses.MISSING:
            raise ConfigError(f"{where}{name}: missing")
    try:
        return cls(**values)
    except ValueError as error:  # of a section that checks itself
        raise ConfigError(f"{where.rstrip('.')}: {error}") from error


def _read(value: Any, hint: Any, where: str, data: type) -> Any:
    """A value of a config as the type hint of its field wants it."""
    choices = _choices(hint)
    if value is None and types.NoneType in choices:
        return None
    if section := next(filter(dataclasses.is_dataclass, choices), None):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a section of keys")
        return _build(section, value, f"{where}.", data)
    if hint == tuple[str, ...] and isinstance(value, list | tuple):
        return tuple(_read(item, str, where, data) for item in value)
    if str in choices and isinstance(value, int | float) and type(value) not in choices:
        return str(value)  # a path that reads like a number
    if expected := expected_type(value, hint):
        raise ConfigError(f"{where}: expected {expected}, found {value!r}")
    return float(value) if float in choices and type(value) is int else value


def _choices(hint: Any) -> tuple:
    """The types that a hint is a union of, or the one that it is."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _unknown(part: str, key: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(key, list(known), n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else f"; known: {', '.join(known)}"
    return ConfigError(f"unknown config key {part!r}{hint}")


def _leaves(tree: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
    names = []
    for name, value in tree.items():
        if isinstance(value, ml_collections.ConfigDict):
            names += _leaves(value, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names
