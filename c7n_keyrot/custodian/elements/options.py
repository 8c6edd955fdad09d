# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The options of our words in policies: each is declared once, for schema, check and documentation.

Custodian checks a policy against the schema, with jsonschema. c7n-org doesn't, and a Lambda archive
holds no jsonschema, so ``validate()`` has to check the same by itself.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from c7n.exceptions import PolicyValidationError
from c7n.utils import type_schema

from c7n_keyrot.core.rotation import MOST_DAYS
from c7n_keyrot.custodian.run import is_serverless

Class = TypeVar("Class", bound=type)

HANDLER = "c7n_keyrot.handler.run"
PACKAGE = "c7n_keyrot"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class ValueKind:
    """What the values of an option are: as a JSON schema, as a check, and in words."""

    schema: dict[str, Any]
    accepts: Callable[[Any], bool]
    words: str
    unit: str = ""


@dataclass(frozen=True)
class Option:
    """One option of a filter or an action; ``default`` is None where there is none."""

    name: str
    kind: ValueKind
    meaning: str
    default: Any = None

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the option's values."""
        return self.kind.schema | ({} if self.default is None else {"default": self.default})

    @property
    def line(self) -> str:
        """The option's line in a docstring, which ``custodian schema`` prints."""
        default = {None: "optional", False: "default false"}.get(
            self.default, f"default {self.default}"
        )
        value = f"{self.kind.unit}, {default}" if self.kind.unit else default
        text = f"- ``{self.name}``: {self.meaning} ({value})"
        return textwrap.fill(text, 92, subsequent_indent="  ", break_on_hyphens=False)


def _is_number(value: Any) -> bool:
    # NaN is neither less nor greater than anything, so it passes a schema.
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MOST_DAYS
    )


def _is_whole(value: Any) -> bool:
    return value % 1 == 0 if _is_number(value) else value == 0 and not isinstance(value, bool)


NUMBER = ValueKind(
    {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_DAYS},
    _is_number,
    f"a number > 0 (at most {MOST_DAYS})",
    unit="days",
)
HOURS = replace(NUMBER, unit="hours")
DAYS_LIST = ValueKind(
    {
        "type": "array",
        "minItems": 1,
        "items": {"type": "integer", "minimum": 0, "maximum": MOST_DAYS},
    },
    lambda value: isinstance(value, list) and bool(value) and all(map(_is_whole, value)),
    "a list of whole days, 0 or more",
    unit="days",
)
HOURS_RANGE = ValueKind(
    {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": {"type": "integer", "minimum": 0, "maximum": 24},
    },
    lambda value: (
        isinstance(value, list)
        and len(value) == 2
        and all(_is_whole(hour) and hour <= 24 for hour in value)
    ),
    "two whole hours of a day, 0 to 24",
    unit="hours",
)
FLAG = ValueKind({"type": "boolean"}, lambda value: isinstance(value, bool), "true or false")


def text(what: str) -> ValueKind:
    """Return the kind of a text that isn't empty; ``what`` it is, for the error."""
    schema = {"type": "string", "minLength": 1}
    return ValueKind(schema, lambda value: isinstance(value, str) and value != "", what)


def between(least: float, most: float, unit: str) -> ValueKind:
    """Return the kind of a number in a range, its ends included; ``unit`` in words."""
    return ValueKind(
        {"type": "number", "minimum": least, "maximum": most},
        lambda value: _is_number(value) and least <= value <= most,
        f"a number from {least:g} to {most:g}",
        unit=unit,
    )


def one_of(*values: int | str) -> ValueKind:
    """Return the kind of a value out of a few."""
    words = ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
    return ValueKind({"enum": list(values)}, lambda value: _is_one_of(value, values), words)


def some_of(*values: str) -> ValueKind:
    """Return the kind of a list of some of these values, at least one."""
    return ValueKind(
        {"type": "array", "minItems": 1, "items": {"enum": list(values)}},
        lambda value: (
            isinstance(value, list) and bool(value) and all(_is_one_of(v, values) for v in value)
        ),
        f"a list of some of {', '.join(values)}",
    )


def _is_one_of(value: Any, values: tuple[int | str, ...]) -> bool:
    # For JSON Schema 2.0 is 2, and for Python True is 1; neither is a slot.
    return any(type(value) is type(one) and value == one for one in values)


def declare(word: str, *options: Option) -> Callable[[Class], Class]:
    """Give a filter or an action its schema, its checks, and ``{options}`` in its docstring.

    :param word: its ``type`` in policies.
    """

    def decorate(cls: Class) -> Class:
        lines = "\n".join(option.line for option in options)
        cls.options = {option.name: option for option in options}  # type: ignore[attr-defined]
        cls.schema = type_schema(  # type: ignore[attr-defined]
            word, **{option.name: option.schema for option in options}
        )
        # Cleaned, as Python 3.13 does by itself: the lines have the indentation of the text then.
        cls.__doc__ = inspect.cleandoc(cls.__doc__ or "").replace("{options}", lines)
        return cls

    return decorate


def check_options(element: Any) -> None:
    """Refuse options that the element doesn't have, and values that aren't of their kind."""
    for name, value in element.data.items():
        if name == "type":
            continue
        option = element.options.get(name)
        if option is None:
            known = ", ".join(sorted(element.options))
            raise invalid(element, f"unknown option {name!r}; valid options: {known}")
        if not option.kind.accepts(value):
            raise invalid(element, f"{name} must be {option.kind.words}, not {value!r}")


def check_mode(element: Any) -> None:
    """Refuse a serverless policy that would fail in Lambda, where no startup file is read."""
    mode = element.manager.data.get("mode") or {}
    if is_serverless(element.manager) and (
        PACKAGE not in (mode.get("packages") or ()) or mode.get("handler") != HANDLER
    ):
        raise invalid(
            element, f"in Lambda, mode needs packages: [{PACKAGE}] and handler: {HANDLER}"
        )


def invalid(element: Any, reason: str) -> PolicyValidationError:
    """Return a validation error that names the policy and the element."""
    return PolicyValidationError(
        f"policy {element.manager.data.get('name')}: {element.type}: {reason}"
    )
