# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What Slack answers, by a real server: whatever isn't a plain yes is an error in a few words."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from c7n_keyrot.cli import mailing, slack

TOKEN = "xoxb-hunter2"


class Slack(BaseHTTPRequestHandler):
    answers: list[tuple[int, str, dict[str, str]]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, text, headers = self.answers.pop(0)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture
def answers(mocker: MockerFixture) -> Iterator[list[tuple[int, str, dict[str, str]]]]:
    Slack.answers = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slack)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    mocker.patch.multiple(slack, API=url, HOOK=f"{url}hook/")
    yield Slack.answers
    server.shutdown()
    server.server_close()


REFUSALS = [
    ((200, '{"ok": false, "error": "token_revoked"}', {}), "token_revoked"),
    ((200, '{"ok": false, "error": "missing_scope"}', {}), "missing_scope"),
    ((200, '{"ok": false, "error": "xoxb-hunter2"}', {}), "an error without a name"),
    ((200, "[]", {}), "an error without a name"),
    ((200, "<html>", {}), "an answer that isn't JSON"),
    ((500, "", {}), "status 500"),
]


@pytest.mark.parametrize(("answer", "why"), REFUSALS)
def test_what_is_not_a_yes_is_an_error(answers: list[Any], answer: Any, why: str) -> None:
    answers.append(answer)
    with pytest.raises(slack.SlackError) as caught:
        slack.post("C1", b"{}", TOKEN)
    assert str(caught.value) == why


def test_it_waits_once_as_slack_asks(answers: list[Any], mocker: MockerFixture) -> None:
    slept = mocker.patch("time.sleep")
    answers += [(429, "busy", {"Retry-After": "7"}), (200, '{"ok": true}', {})]
    slack.post("C1", b"{}", TOKEN)
    answers += [(429, "", {"Retry-After": "9999"}), (429, "", {})]
    with pytest.raises(slack.SlackError, match="status 429"):
        slack.post("C1", b"{}", TOKEN)
    assert [call.args for call in slept.call_args_list] == [(7,), (slack.MOST_WAIT,)]


def test_a_webhook_says_ok_or_nothing(answers: list[Any]) -> None:
    answers += [(200, "ok", {}), (200, "invalid_blocks", {})]
    slack.post(f"{slack.HOOK}T0/hunter2", b"{}", None)
    with pytest.raises(slack.SlackError, match="the webhook refused it"):
        slack.post(f"{slack.HOOK}T0/hunter2", b"{}", None)


def test_nobody_listens_and_no_webhook_is_quoted(mocker: MockerFixture) -> None:
    mocker.patch.object(slack, "HOOK", "http://127.0.0.1:1/")
    with pytest.raises(slack.SlackError) as caught:
        slack.post("http://127.0.0.1:1/T0/hunter2", b"{}", None)
    assert str(caught.value) == "ConnectionError"


def test_users(answers: list[Any]) -> None:
    answers += [
        (200, '{"ok": true, "user": {"id": "U1"}}', {}),
        (200, '{"ok": true, "user": {"id": "U1", "enterprise_user": {"id": "W1"}}}', {}),
        (200, '{"ok": false, "error": "users_not_found"}', {}),
        (200, '{"ok": false, "error": "invalid_auth"}', {}),
    ]
    assert [slack.user_of("a@b.test", TOKEN) for _ in range(3)] == ["U1", "W1", None]
    with pytest.raises(slack.SlackError, match="invalid_auth"):
        slack.user_of("a@b.test", TOKEN)


def test_a_message_that_slack_refuses_is_an_error_of_the_mailer(
    answers: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    mailer = mailing._Mailer()
    delivery = SimpleNamespace(config={"slack_token": TOKEN}, caching=None)
    answers += [(200, "no", {}), (200, '{"ok": false, "error": "invalid_auth"}', {})]
    mailer.slack_send(delivery, {"policy": {"name": "p"}}, {f"{slack.HOOK}T0/hunter2": "{}"})
    assert mailer.slack_users(delivery, ["ana@corp.test"]) == {}
    assert mailer._lost == [
        "Slack: a webhook didn't get a message: the webhook refused it",
        "Slack: the user of ana@corp.test isn't known: invalid_auth",
    ]
    assert "hunter2" not in caplog.text
