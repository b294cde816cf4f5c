"""The configuration reference, out of the settings themselves: `python -m proxy.config.reference` prints it.

docs/configuration.md is what this prints (`make docs`), and a test holds that it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.config.load import section_of
from proxy.config.settings import Settings
from proxy.config.values import Like

INTRODUCTION = """\
# Configuration

One YAML file, `aqueduct.yaml` in the working directory or the one named with `-c`. `aqueduct check` tells everything
that is wrong with it, each fault with its line, key and what was expected; a key that is not below is a fault.

A scalar may name the environment, `${NAME}` or `${NAME:-default}`, and a file whose text it is,
`${file:/run/secrets/name}`: secrets belong there. What names a time or a bound says so at its end
(`_s`, `_ms`, `_per_s`, `_max`). Hosts are numeric: what a name points to can move under a live call.

This page is made of the settings themselves: `make docs`.
"""


def reference() -> str:
    parts = [INTRODUCTION]
    for key, field in Settings.model_fields.items():
        parts += _section(key, field)
    return "\n".join(parts)


def _section(path: str, field: FieldInfo) -> Iterator[str]:
    """A heading, the table of the keys below `path`, and the sections below those."""
    section, place = _within(field)
    assert section is not None
    path += place
    yield f"## `{path}`\n\n{_sentence(section.__doc__)}\n"
    rows, below = [], []
    for key, each in section.model_fields.items():
        inner, place = _within(each)
        if inner is not None:
            there = f"{path}.{key}"
            below.append((there, each))
            value, default = f"[`{there}{place}`](#{_anchor(there + place)})", "required" if each.is_required() else ""
            if each.default is None and not each.is_required():
                value, default = f"{value} or `null`", "`null`"
        else:
            value = _value(each.annotation, each.metadata)
            default = "required" if each.is_required() else f"`{_written(each.default)}`"
        rows.append(f"| `{key}` | {value} | {default} | {_sentence(each.description)} |")
    yield "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows]) + "\n"
    for there, each in below:
        yield from _section(there, each)


def _within(field: FieldInfo) -> tuple[type[BaseModel] | None, str]:
    """The section that a field holds, and what stands between its key and theirs: nothing, a name, or a number."""
    section = section_of(field.annotation)
    if section is not None:
        return section, ""
    for kind, place in ((dict, ".<name>"), (tuple, "[]")):
        if get_origin(field.annotation) is kind:
            for each in get_args(field.annotation):
                if isinstance(each, type) and issubclass(each, BaseModel):
                    return each, place
    return None, ""


def _value(kind: Any, about: Sequence[Any] = ()) -> str:
    """What may be written for a value of this kind; `about`: what else is known of it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _value(parts[0], parts[1:])
    like = next((each for each in about if isinstance(each, Like)), None)
    if like is not None:
        return f"like `{like}`"
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in parts)
    if origin in (Union, UnionType):
        return " or ".join(_value(each, about) for each in parts)
    if origin is tuple:
        return f"list of values {_value(parts[0])}"
    if origin is dict:
        return f"names, each with a value {_value(parts[1])}"
    if kind is NoneType:
        return "`null`"
    if kind is bool:
        return "`true`, `false`"
    if kind in (int, float):
        low, high = (next(getattr(each, name) for each in about if hasattr(each, name)) for name in ("ge", "le"))
        steps = next((f" in steps of {each.multiple_of}" for each in about if hasattr(each, "multiple_of")), "")
        return f"{low} to {high}{steps}"
    return "text"


def _written(value: Any) -> str:
    """As it stands in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) in (tuple, dict):
        inside = ", ".join(map(_written, value))
        return f"[{inside}]" if type(value) is tuple else f"{{{inside}}}"
    return str(value)


def _anchor(heading: str) -> str:
    """As the usual renderers of Markdown make it of a heading."""
    return "".join(each for each in heading.lower() if each.isalnum() or each in "_-")


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
