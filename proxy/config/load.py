"""From YAML text to `Settings`, or to located faults: file, line, column, key path, value, expectation.

All faults of a file are reported at once. Scalars may name the environment, `${NAME}` or `${NAME:-default}`, and a file
whose text they are, `${file:/run/secrets/name}`; what came from there stands in no fault, and no secret does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from proxy.config.checks import KeyPath, cross_checks, near
from proxy.config.section import NAME_PATTERN
from proxy.config.settings import Settings

_NAME_EXPECTED = "a name of letters, digits, dot, dash and underscore that starts with a letter"
_VARIABLE = re.compile(r"\$\{(?:file:([^}]+)|([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?)\}")

_WRITTEN = "written"  # attribute of a node: what stood in the file before the environment was put in


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration, and where. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    key: str  # pools.pbx.backends.as1.address
    value: str | None  # as written, shortened; None when the key itself is the fault
    expected: str

    def __str__(self) -> str:
        got = "" if self.value is None else f"got {self.value}, "
        return f"{self.file}:{self.line}:{self.column}: {self.key or 'file'}: {got}expected {self.expected}"


class _Loader(yaml.SafeLoader):
    """Only true and false are booleans, as in YAML 1.2: a backend may be called `no` or `on`."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$", re.IGNORECASE), list("tTfF"))


class ConfigError(Exception):
    """A configuration that cannot be used. `faults` has all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class _UnsetError(Exception):
    """A scalar names an environment variable that is not set, or a file that cannot be read; the text says which."""


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the file at `path`. Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Fault(str(path), 1, 1, "", None, f"a readable file: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Fault(str(path), 1, 1, "", None, f"UTF-8 text: {error.reason}")]) from None
    return parse(text, str(path), environ)


def parse(text: str, file: str = "aqueduct.yaml", environ: Mapping[str, str] = os.environ) -> Settings:
    """Check configuration `text`; `file` is the name used in faults. Raises ConfigError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError([Fault(file, 1, 1, "", None, "a configuration with pools and routes; it is empty")])
        faults = list(_substitute(node, (), file, environ, set()))
        faults += _duplicates(node, (), file)
        _keys_as_text(node)
        if faults:
            raise ConfigError(faults)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigError([Fault(file, line, column, "", None, f"YAML: {error.problem}")]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([Fault(file, line, 1, "", None, f"YAML: {error.reason}")]) from None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigError([_fault(detail, node, file) for detail in _first_causes(error.errors())]) from None
    faults = [_located(node, path, file, expected) for path, expected in cross_checks(settings)]
    if faults:
        raise ConfigError(faults)
    return settings


def _substitute(node: yaml.Node, path: KeyPath, file: str, environ: Mapping[str, str], seen: set[int]) -> list[Fault]:
    """Replace `${NAME}` in every scalar value below `node`."""
    if id(node) in seen:  # an alias: one node in two places
        return []
    seen.add(id(node))
    faults: list[Fault] = []
    if isinstance(node, yaml.ScalarNode) and "${" in node.value:

        def value_of(match: re.Match[str]) -> str:
            if match[1]:
                return _text_of(match[1])
            value = environ.get(match[2], match[3])
            if value is None:
                raise _UnsetError(f"the environment variable {match[2]} to be set")
            return value

        try:
            written = node.value
            node.value = _VARIABLE.sub(value_of, written)
            vars(node)[_WRITTEN] = written
        except _UnsetError as unset:
            mark = node.start_mark
            faults.append(Fault(file, mark.line + 1, mark.column + 1, _dotted(path), None, str(unset)))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            faults += _substitute(value, (*path, key.value), file, environ, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            faults += _substitute(item, (*path, index), file, environ, seen)
    return faults


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error.reason
        raise _UnsetError(f"the file {path} to be readable: {why}") from None


def _duplicates(node: yaml.Node, path: KeyPath, file: str) -> list[Fault]:
    """YAML forbids a key twice in one mapping; the library takes the last one without a word."""
    faults: list[Fault] = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value)
            here = (*path, name)
            if name in seen and key.tag != "tag:yaml.org,2002:merge":
                expected = f"each key once; it is on line {seen[name]} already"
                mark = key.start_mark
                faults.append(Fault(file, mark.line + 1, mark.column + 1, _dotted(here), None, expected))
            seen[name] = key.start_mark.line + 1
            faults += _duplicates(value, here, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            faults += _duplicates(item, (*path, index), file)
    return faults


def _keys_as_text(node: yaml.Node) -> None:
    """Every key here is a name or a word: one that looks like a number or a truth is the text that it is."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
            _keys_as_text(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keys_as_text(item)


def _first_causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """A list whose only entry has a fault is not too short as well."""
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(detail["loc"] == other["loc"][: len(detail["loc"])] for other in details if other is not detail)
    ]


def _fault(detail: ErrorDetails, root: yaml.Node, file: str) -> Fault:
    """Put what pydantic says into our words, at its place in the file."""
    kind, path, context = detail["type"], tuple(detail["loc"]), detail.get("ctx", {})
    if path and path[-1] == "[key]":
        expected = _NAME_EXPECTED
        return _located(root, path[:-1], file, expected, at_key=True)
    if kind == "extra_forbidden":
        keys = _keys_at(path[:-1])
        expected = f"one of {', '.join(keys)}{near(str(path[-1]), keys)}"
        return _located(root, path, file, expected, at_key=True)
    if kind == "missing":
        return _located(root, path, file, "this key, which has no default")
    expected = {
        "value_error": str(context.get("error", "")),
        "literal_error": str(context.get("expected", "")),
        "too_short": "at least one entry",
        "dict_type": "a mapping of keys to values",
        "model_type": "a mapping of keys to values",
        "tuple_type": "a list",
        "string_type": "text",
        "path_type": "a path",
        "bool_parsing": "true or false",
        "string_pattern_mismatch": _expected_of(context.get("pattern", "")),
    }.get(kind) or detail["msg"].removeprefix("Input should be ")
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", expected)
        expected += near(str(detail["input"]), allowed)
    return _located(root, path, file, expected)


def _expected_of(pattern: str) -> str:
    return _NAME_EXPECTED if pattern == NAME_PATTERN else f"text that matches {pattern}"


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that are allowed below `path`."""
    section = section_of(_kind_at(path))
    return list(section.model_fields) if section is not None else []


def _kind_at(path: KeyPath) -> Any:
    """The kind of what is at `path`, read from the models; None: nothing is known there."""
    where: Any = Settings
    for key in path:
        section = section_of(where)
        if section is not None:
            field = section.model_fields.get(str(key))
            where = field.annotation if field else None
        else:  # dict[Name, Section] or tuple[Section, ...]
            place = {dict: 1, tuple: 0}.get(get_origin(where))
            where = None if place is None else get_args(where)[place]
    return where


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key of this kind holds, though it may be null."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _located(root: yaml.Node, path: KeyPath, file: str, expected: str, at_key: bool = False) -> Fault:
    """The fault at `path`, or at the nearest thing above it that is in the file."""
    node, mark, found = root, root.start_mark, True
    for key in path:
        step = _step(node, key)
        if step is None:
            found = False
            break
        key_node, node = step
        mark = (key_node if at_key and key is path[-1] else node).start_mark
    value = None
    if found and not at_key and isinstance(node, yaml.ScalarNode) and _kind_at(path) is not SecretStr:
        value = repr(str(vars(node).get(_WRITTEN, node.value))[:60])
    return Fault(file, mark.line + 1, mark.column + 1, _dotted(path), value, expected)


def _step(node: yaml.Node, key: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value in reversed(node.value):
            if key_node.value == str(key):
                return key_node, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    elif isinstance(node, yaml.ScalarNode) and key == 0:  # a list that is written as its only entry
        return node, node
    return None


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")
