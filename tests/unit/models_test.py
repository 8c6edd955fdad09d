# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sessions of one process share botocore's models; nobody else's settings are lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from pytest_mock import MockerFixture

from c7n_keyrot.aws import gate, models
from c7n_keyrot.aws.errors import CallError


def new_session(**more: Any) -> boto3.Session:
    return boto3.Session("AKIAEXAMPLE", "none", region_name="us-east-1", **more)


def test_second_session_reads_no_model_again(mocker: MockerFixture) -> None:
    gate.client(new_session())
    opened = mocker.spy(models._loader(None).file_loader, "load_file")
    second = gate.client(new_session())
    assert second.meta.service_model.service_name == "iam"
    assert opened.call_count == 0


def test_models_of_ones_own_are_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.client(new_session())
    (folder := tmp_path / "keyrot-test" / "2026-01-01").mkdir(parents=True)
    model = {"metadata": {"serviceId": "x", "endpointPrefix": "x", "protocol": "query"}}
    (folder / "service-2.json").write_text(json.dumps(model | {"operations": {}, "shapes": {}}))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    session = new_session()
    gate.client(session)
    assert "keyrot-test" in session.get_available_services()


def test_session_of_a_profile_that_is_not_there_fails_as_any_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = new_session()
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    session._session.set_config_variable("profile", "nobodys")
    with pytest.raises(CallError, match="iam:client.*nobodys"):
        gate.client(session)
