# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The server: AWS's side of the wire, and the side that tests use. Its state is moto's."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import sys
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import OperationNotFoundError
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.base_backend import BackendDict
from moto.iam.models import get_account_id_from
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends
from moto.utilities.utils import get_partition
from werkzeug.serving import make_server

from embedded_aws.account import Account
from embedded_aws.calls import Answer, Call, error_answer
from embedded_aws.constants import HUB, ORGANIZATION_ID
from embedded_aws.event_history import ACTION as LOOKUP
from embedded_aws.event_history import EventHistory, HistoryError
from embedded_aws.faults import FaultInjection
from embedded_aws.functions import archives, operation
from embedded_aws.moto_patches import patched
from embedded_aws.partitions import PARTITIONS
from embedded_aws.permissions import Permissions, queue_of

_open = threading.Lock()


class EmbeddedAws(FaultInjection):
    """The server; a context manager.

    partition: the name of one in ``PARTITIONS``; calls of other ones are refused;
    latency: seconds that each call takes; report_seconds: how long a credential report takes;
    report_valid_hours: the age from which GenerateCredentialReport makes a new one;
    report_expires_hours: the age from which GetCredentialReport answers ReportExpired;
    key_page: keys in a page of ListAccessKeys at most, since AWS may page at any number.
    """

    def __init__(
        self,
        latency: float = 0.0,
        report_seconds: float = 0.0,
        report_valid_hours: float = 4.0,
        report_expires_hours: float = 4.0,
        key_page: int = 100,
        port: int = 0,
        partition: str = "aws",
    ):
        self.partition = PARTITIONS[partition]
        super().__init__(self.partition)
        self.latency = latency
        self.report_seconds = report_seconds
        self.report_valid_hours = report_valid_hours
        self.report_expires_hours = report_expires_hours
        self.key_page = key_page
        self.calls: Counter[str] = Counter()
        self.log: deque[Call] = deque(maxlen=100_000)
        self.errors: list[str] = []  # failures of the embedded AWS itself, for tests to check
        self.url = ""
        self._port = port
        self._accounts: dict[str, Account] = {}
        self._permissions = Permissions(self.partition)
        self.history = EventHistory()
        self._stack = ExitStack()
        self.control: Callable[[str, dict[str, str]], Any] | None = None

    def __enter__(self) -> EmbeddedAws:
        if not _open.acquire(blocking=False):
            raise RuntimeError("an EmbeddedAws is open in this process already: close it first")
        self._stack.callback(_open.release)
        try:
            BackendDict.reset()
            self._stack.callback(BackendDict.reset)
            self._stack.enter_context(patched(self.account, self._lag, lambda: self.key_page))
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._stack.close()

    def _start(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        server = make_server(
            "127.0.0.1", self._port, self._serve, threaded=True, request_handler=_QuietHandler
        )
        self._stack.callback(server.server_close)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"

    # Accounts and processes

    def account(self, account_id: str = HUB) -> Account:
        with self.lock:
            return self._accounts.setdefault(account_id, Account(self, account_id))

    @property
    def accounts(self) -> list[Account]:
        return list(self._accounts.values())

    def credentials(self, account_id: str = HUB, role: str | None = None) -> dict[str, str]:
        """Return variables with credentials for the account: of its administrator, or of a role.

        Under enforce() a role's credentials are limited to its policies.
        """
        if role is None:
            return {
                "AWS_ACCESS_KEY_ID": f"AKIA0000{account_id}",
                "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            }
        with self.lock:
            found = self.partition.iam(account_id).get_role(role)  # must be there
            assumed = self.partition.sts(account_id).assume_role(
                region_name=self.partition.region,
                role_session_name="demo",
                role_arn=found.arn,
                policy="",
                duration=3600,
                external_id="",
            )
        return {
            "AWS_ACCESS_KEY_ID": assumed.access_key_id,
            "AWS_SECRET_ACCESS_KEY": assumed.secret_access_key,
            "AWS_SESSION_TOKEN": assumed.session_token,
        }

    def env(
        self, account_id: str = HUB, home: str | Path = "/nonexistent", role: str | None = None
    ) -> dict[str, str]:
        """Return a process's whole environment: this AWS and account, nothing of the caller."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": self.partition.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **self.credentials(account_id, role),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        }

    @property
    def secrets(self) -> list[str]:
        """Every secret that AssumeRole has returned, to search for where none may be."""
        with self.lock:
            roles = [
                role
                for account_id in list(sts_backends)
                for role in self.partition.sts(account_id).assumed_roles
            ]
        return [secret for r in roles for secret in (r.secret_access_key, r.session_token)]

    # Calls

    def reset_calls(self) -> None:
        with self.lock:
            self.calls.clear()
            self.log.clear()

    # Queues

    def create_queue(
        self,
        name: str,
        account_id: str = HUB,
        policy: Mapping[str, Any] | None = None,
        organization: bool = False,
    ) -> str:
        """Make a queue, or give it this policy; return its URL.

        Other accounts may send only as the policy says.

        organization: a policy that lets every account of the organization send.
        """
        if organization:
            statement = {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "sqs:SendMessage",
                "Resource": self.partition.queue_arn(account_id, name),
                "Condition": {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
            }
            policy = {"Version": "2012-10-17", "Statement": [statement]}
        with self.lock:
            backend = self.partition.sqs(account_id)
            backend.create_queue(name)
            if policy:
                backend.set_queue_attributes(name, {"Policy": json.dumps(policy)})
        return f"{self.url}/{account_id}/{name}"

    def messages(self, name: str, account_id: str = HUB) -> list[Any]:
        """Return the queue's messages, and leave them there; decode notices as c7n-mailer does."""
        with self.lock:
            queue = self.partition.sqs(account_id).queues[name]
            return [_decode(message.body) for message in queue._messages]

    def metrics(self, policy: str, account_id: str = HUB) -> dict[str, float]:
        """Return what CloudWatch has of a policy of Custodian: the newest value by name."""
        with self.lock:
            backend = cloudwatch_backends[account_id][self.partition.region]
            return {
                datum.name: datum.value
                for datum in backend.metric_data
                if any((d.name, d.value) == ("Policy", policy) for d in datum.dimensions)
            }

    # Buckets

    def create_bucket(
        self, name: str, account_id: str = HUB, policy: Mapping[str, Any] | None = None
    ) -> None:
        """Make a bucket; with a policy other accounts may do in it only what that allows."""
        with self.lock:
            s3_backends[account_id][self.partition.name].create_bucket(name, self.partition.region)
            if policy:
                self._permissions.bucket_policies[name] = (account_id, policy)

    def objects(self, bucket: str, account_id: str = HUB) -> dict[str, bytes]:
        """Return the bucket's objects by their keys."""
        with self.lock:
            keys = s3_backends[account_id][self.partition.name].get_bucket(bucket).keys
            return {key: item.value for key, item in keys.items()}

    # Lambda

    def functions(self, account_id: str = HUB) -> dict[str, tuple[dict[str, Any], bytes]]:
        """Return {name: (configuration, archive)} of the account's Lambda functions."""
        with self.lock:
            return archives(account_id, self.partition.region)

    # Time

    def move_clock(self, days: float) -> None:
        """Let `days` pass: everything with a date gets older (processes use the real clock).

        That is users, keys, last uses, recorded calls, reports, and the dates in users' tags (by
        whole days).
        """
        with self.lock:
            for account in self.accounts:
                account.shift(timedelta(days=days))
            self.history.shift(timedelta(days=days))
            self._lag.catch_up()

    def enforce(self, on: bool = True) -> None:
        """Limit roles to their policies, and AssumeRole to the role's trust (external id included).

        Administrators (env() without a role) aren't limited. moto's own enforcement knows neither
        resources nor external ids.
        """
        self._permissions.enforced = on

    # The server's side

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        path = environ["PATH_INFO"]
        if path.startswith("/__keyrot/"):
            return self._serve_control(path, environ, start_response)
        call = self._read(environ, body)
        with self.lock:
            self.calls[call.action] += 1
            self.log.append(call)
        if self.latency:
            time.sleep(self.latency)
        try:
            status, headers, answer = self._answer(environ, call)
        except ConnectionError:
            _hang_up(environ)
            raise
        except Exception as error:  # noqa: BLE001 - a hook's mistake, say, ends one call only
            self.errors.append(f"{call.action}: {error!r}")
            status, headers, answer = error_answer(
                environ, call, "InternalFailure", message=repr(error)
            )
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers = [*headers, ("Content-Length", str(len(answer)))]
        start_response(status, headers)
        return [answer]

    def _read(self, environ: dict[str, Any], body: bytes) -> Call:
        header = environ.get("HTTP_AUTHORIZATION", "")
        scope = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", header)
        principal, region, service = scope.groups() if scope else ("", "", "unsigned")
        target = environ.get("HTTP_X_AMZ_TARGET")
        if target:
            params = json.loads(body or b"{}")
            action = target.split(".")[-1]
        elif service == "lambda":
            action, params = operation(environ["REQUEST_METHOD"], environ["PATH_INFO"], body)
        else:
            text = body.decode("utf-8", "replace")
            if service == "s3":  # its body is an object
                text = environ.get("QUERY_STRING", "")
            params = dict(parse_qsl(text, keep_blank_values=True))
            action = params.get("Action", f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        ours = re.fullmatch(r"AKIA0000(\d{12})", principal)
        account = ours[1] if ours else get_account_id_from(principal)
        # moto would take keys that it doesn't know for the default account's.
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
        user = params.get("UserName")
        if user is None and service == "iam" and "AccessKeyId" in params:
            key = self.partition.iam(account).access_keys.get(params["AccessKeyId"])
            user = key.user_name if key else None
        action = f"{service}.{action}"
        return Call(time.time(), account, action, params, user, principal, region)

    def _answer(self, environ: dict[str, Any], call: Call) -> Answer:
        if call.region and get_partition(call.region) != self.partition.name:
            return error_answer(environ, call, "InvalidClientTokenId")
        if self._over_limit(call):
            return error_answer(environ, call, "Throttling")
        fault = next((rule for rule in self._faults if rule.take(call)), None)
        if fault and not fault.late:
            return self._fault(environ, call, fault)
        for hook in self._before:
            if hook.take(call):
                hook.act(call)  # type: ignore[operator]
        denied = self._permissions.denied(call)
        if denied:
            code = "AccessDeniedException" if call.action == LOOKUP else "AccessDenied"
            answer = error_answer(environ, call, code, message=denied)
        else:
            ask = self._ask_history if call.action == LOOKUP else self._ask_moto
            answer = ask(environ, call)
            for hook in self._after:
                if hook.take(call):
                    hook.act(call)  # type: ignore[operator]
        return self._fault(environ, call, fault, answer) if fault else answer

    def _ask_history(self, environ: dict[str, Any], call: Call) -> Answer:
        try:
            with self.lock:
                found = self.history.lookup(call)
        except HistoryError as error:
            return error_answer(environ, call, str(error))
        headers = [("Content-Type", "application/x-amz-json-1.1")]
        return "200 OK", headers, json.dumps(found).encode()

    def _ask_moto(self, environ: dict[str, Any], call: Call) -> Answer:
        started: list[Any] = []
        if queue := queue_of(call):
            # moto finds a queue by its name alone; in AWS the URL's account says whose it is.
            environ["HTTP_X_MOTO_ACCOUNT_ID"] = queue[0]
        try:
            # A mailer that waits for messages must not block all others.
            with nullcontext() if call.action == "sqs.ReceiveMessage" else self.lock:
                self._lag.note(call)
                parts = self._moto(environ, lambda *args: started.append(args))
                body = b"".join(parts)
        except (NotImplementedError, OperationNotFoundError):
            return error_answer(environ, call, "InvalidAction", message=f"no {call.action} here")
        status, headers = started[0][:2]
        return status, [h for h in headers if h[0].lower() != "content-length"], body

    # Control over HTTP, for benchmarks in another process

    def _serve_control(
        self, path: str, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        name = path.removeprefix("/__keyrot/")
        answer: Any = None
        with self.lock:
            if name == "calls":
                answer = dict(self.calls)
            elif self.control:
                answer = self.control(name, query)
        status = "404 Not Found" if answer is None else "200 OK"
        body = json.dumps(answer).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [body]


class _QuietHandler(MotoRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        pass


def _hang_up(environ: Mapping[str, Any]) -> None:
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        with suppress(OSError):  # the client may have been faster
            connection.shutdown(socket.SHUT_RDWR)


def _decode(body: str) -> Any:
    try:
        return json.loads(zlib.decompress(base64.b64decode(body)))
    except (ValueError, zlib.error):
        return body
