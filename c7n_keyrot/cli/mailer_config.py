# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Why a mailer.yml can't be used, in one line that quotes no value: it has passwords."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import yaml

from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.evidence.accounts import yaml_problem

# Of an option. A password that is written in the wrong place isn't printed as one.
OPTION = re.compile("[a-z]+(_[a-z]+)*")


def refusal(error: Exception, path: Path | str) -> str:
    """Return what is wrong with a file, by the error that c7n-mailer, or its schema, raised."""
    import jsonschema  # type: ignore[import-untyped]  # Custodian needs it, too

    if isinstance(error, jsonschema.ValidationError):
        return f"c7n-mailer refuses {path}: {_schema_problem(error)}"
    if isinstance(error, yaml.YAMLError):
        return f"{path} isn't YAML: {yaml_problem(error)}"
    return f"{path} can't be used ({type(error).__name__})"


def validate(config: dict[str, Any], path: Path) -> None:
    """Check a mailer.yml against c7n-mailer's own schema, if c7n-mailer is installed.

    :raises CommandError: c7n-mailer refuses it.
    """
    if importlib.util.find_spec("c7n_mailer") is None:
        return
    import jsonschema
    from c7n_mailer.cli import CONFIG_SCHEMA  # type: ignore[import-untyped]

    try:
        jsonschema.validate(config, CONFIG_SCHEMA)
    except jsonschema.ValidationError as error:
        raise CommandError(refusal(error, path)) from None


def _schema_problem(error: Any) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "the file"
    if error.validator == "required":
        return str(error.message)  # a name in the schema
    if error.validator == "additionalProperties":
        names = [str(name) for name in error.instance if name not in error.schema["properties"]]
        known = [name for name in names if OPTION.fullmatch(name)]
        others = len(names) - len(known)
        hidden = [f"{others} that can't be an option's name"] if others else []
        return f"unknown options: {', '.join(known + hidden)}"
    if error.validator == "type":
        return f"{where} must be of type {error.validator_value}"
    return f"{where} isn't valid"
