#!/usr/bin/env python
# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the AWS CLI: the commands in README.md, by boto3, with their options as they are.

It knows what those need: shorthand (``Key=value,Key=value``), ``file://``, ``--query``, switches,
and ``cloudformation deploy``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import boto3
import jmespath


def main(service: str, command: str, *args: str) -> None:
    options = parse(args)
    query = options.pop("query", None)
    client = boto3.client(service)
    if (service, command) == ("cloudformation", "deploy"):
        deploy(client, options)
        return
    name = command.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[name])
    members = {key.lower(): (key, shape) for key, shape in model.input_shape.members.items()}
    given = {}
    for option, values in options.items():
        key, shape = members[option.replace("-", "")]
        given[key] = value_of(shape, values)
    answer = getattr(client, name)(**given)
    answer.pop("ResponseMetadata")
    print(json.dumps(jmespath.search(query[0], answer) if query else answer, default=str))


def parse(args: tuple[str, ...]) -> dict[str, list[str]]:
    """{"stack-name": ["c7n-keyrot"]}; a switch has no values."""
    options: dict[str, list[str]] = {}
    for arg in args:
        if arg.startswith("--"):
            options[arg[2:]] = []
        else:
            options[list(options)[-1]].append(arg)
    return options


def value_of(shape: Any, values: list[str]) -> Any:
    if shape.type_name == "list":
        if shape.member.type_name == "structure":
            return [value_of(shape.member, [value]) for value in values]
        return values
    if shape.type_name == "boolean":
        return not values or values[0] == "true"
    (value,) = values
    if shape.type_name == "structure":
        pairs = [pair.split("=", 1) for pair in value.split(",")]
        return {key: value_of(shape.members[key], [text]) for key, text in pairs}
    return Path(value[7:]).read_text("utf-8") if value.startswith("file://") else value


def deploy(client: Any, options: dict[str, list[str]]) -> None:
    parameters = [pair.split("=", 1) for pair in options["parameter-overrides"]]
    client.create_stack(
        StackName=options["stack-name"][0],
        TemplateBody=Path(options["template-file"][0]).read_text("utf-8"),
        Capabilities=options["capabilities"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
