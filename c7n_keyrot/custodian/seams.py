# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The places of Custodian, and of libraries below it, that this package relies on.

Nothing is imported from them before ``moved()`` looks: the list is for the doctor as well.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

# The releases of c7n that all tests were run with: the oldest and the newest one.
TESTED = ("0.9.29", "0.9.53")
# Not installed everywhere; where they aren't, none of their places has moved.
EXTRAS = ("c7n_org", "c7n_mailer")


@dataclass(frozen=True)
class Seam:
    """A place in Custodian, or in a library below it, that our code relies on.

    ``place`` is ``module:name.name``; ``parameters`` are those that our code relies on; ``holds``
    is given what is found there, and tells whether it does what our code relies on. Where ``use``
    says that a place is replaced or watched, the code for it has ``:seam: PLACE`` in its docstring.
    """

    place: str
    use: str
    parameters: tuple[str, ...] = ()
    holds: Callable[[Any], object] | None = None


def _names_its_source(get_cache_key: Any) -> bool:
    config = SimpleNamespace(region="r", account_id="a")
    manager = SimpleNamespace(source_type="s", config=config, account_id="a")
    return bool(get_cache_key(manager, None)["source"] == "s")


def _has_cache(manager: Any) -> bool:
    """Custodian's users go through ``_cache`` of their manager, and nowhere else."""
    made = manager(SimpleNamespace(session_factory=None, options=None), {})
    return all(hasattr(made._cache, name) for name in ("get", "save", "__enter__", "__exit__"))


def _asks_cache(resources: Any) -> bool:
    return {"_cache", "get_cache_key", "filter_resources"} <= {*resources.__code__.co_names}


def _calls_actions(run: Any) -> bool:
    return {"resource_manager", "actions", "process"} <= {*run.__code__.co_names}


def _limits(checked: Any) -> bool:
    return {"check_resource_limit", "filter_resources"} <= {*checked.__code__.co_names}


def _validates(function: Any) -> bool:
    """Tell whether a function, or one inside of it, calls ``validate()``."""
    code = getattr(function, "__code__", function)
    inner = [one for one in code.co_consts if hasattr(one, "co_consts")]
    return "validate" in code.co_names or any(map(_validates, inner))


def _validates_elements(validate: Any) -> bool:
    names = {*validate.__code__.co_names}
    return _validates(validate) and bool({"filters", "actions"} & names)


def _is_kept_apart(session: Any) -> bool:
    return hasattr(session(), "_credentials")


def _has_core(session: Any) -> bool:
    return hasattr(session(), "_session")


def _takes_loader(session: Any) -> bool:
    core, loader = session(), object()
    core.register_component("data_loader", loader)
    return core.get_component("data_loader") is loader


def _goes_through_both(run: Any) -> bool:
    return {"process_sqs_message", "ack"} <= {*run.__code__.co_names}


def _keeps_its_source(fetcher: Any) -> bool:
    source = object()
    made = fetcher(None, source, "arn:aws:iam::123456789012:role/any")
    return made._source_credentials is source and made.fetch_credentials.__self__ is made


def _keeps_how_to_refresh(credentials: Any) -> bool:
    return credentials(dict, "any")._refresh_using is dict


def _wraps(refresher: Any) -> bool:
    return refresher(dict)._refresh is dict


def _goes_through_futures(run: Any) -> bool:
    return {"init", "as_completed"} <= {*run.callback.__code__.co_names}


def _is_schema(schema: Any) -> bool:
    return "properties" in schema


SEAMS = (
    # -- the resource manager, and its cache
    Seam("c7n.manager:ResourceManager", "the users' cache is replaced on it", holds=_has_cache),
    Seam(
        "c7n.manager:ResourceManager.filter_resources",
        "replaced on the manager: which keys the filters select is settled after them",
        ("resources", "event"),
    ),
    Seam(
        "c7n.query:QueryResourceManager.resources",
        "replaced on the manager: that a run begins is on disk before its first call",
        ("query",),
    ),
    Seam("c7n.query:QueryResourceManager.resources", "asks the cache", holds=_asks_cache),
    Seam(
        "c7n.query:QueryResourceManager.get_cache_key",
        "tells our users from everything else: a tag set after a dry run must count",
        ("query",),
        _names_its_source,
    ),
    Seam("c7n.query:QueryResourceManager.resources", "max-resources", holds=_limits),
    Seam(
        "c7n.query:QueryResourceManager.check_resource_limit",
        "replaced on the manager: max-resources gets the account's number of users",
        ("selection_count", "population_count"),
    ),
    Seam("c7n.query:QueryResourceManager.get_source", "it makes our source", ("source_type",)),
    Seam("c7n.query:DescribeSource.get_query_params", "inherited by our source"),
    Seam("c7n.cache:factory", "a handle of our own for the credential report", ("config",)),
    Seam("c7n.cache:NullCache", "in place of a cache that can't be used", ("config",)),
    Seam(
        "c7n.resolver:URIResolver.resolve", "it reads registers of exemptions", ("uri", "headers")
    ),
    Seam("c7n.resolver:URIResolver", "the same", ("session_factory", "cache")),
    # -- filters and actions
    Seam("c7n.filters:Filter.process", "watched while filters run", ("resources", "event")),
    Seam("c7n.filters:ValueFilter.match", "asked about one key", ("i",)),
    Seam("c7n.actions:BaseAction.process", "replaced: intents first, none in a dry run"),
    Seam(
        "c7n.policy:PullMode.run",
        "it goes through the manager's actions, ours at their end",
        holds=_calls_actions,
    ),
    Seam(
        "c7n.policy:LambdaMode.run_resource_set",
        "so does a function that an event starts",
        ("event", "resources"),
        _calls_actions,
    ),
    Seam(
        "c7n.actions:Notify.process",
        "replaced on the action: notices carry what our templates print",
        ("resources", "event"),
    ),
    Seam("c7n.actions:Notify.expand_variables", "replaced on the action", ("message",)),
    Seam(
        "c7n.actions:Notify.send_data_message",
        "replaced on the action; it returns the id of the message",
        ("message",),
    ),
    # -- validate(): from here on a policy with our words has a run
    Seam("c7n.policy:Policy.validate", "asks each filter and action", holds=_validates_elements),
    Seam("c7n.filters:Or.validate", "a block asks those in it", holds=_validates_elements),
    Seam("c7n.filters:And.validate", "the same", holds=_validates_elements),
    Seam("c7n.filters:Not.validate", "the same", holds=_validates_elements),
    Seam("c7n.commands:policy_command", "custodian validates before a run", holds=_validates),
    Seam("c7n_org.cli:run_account", "so does c7n-org", holds=_validates),
    # -- while a filter of Custodian's own runs
    Seam(
        "botocore.client:BaseClient._make_api_call",
        "watched: a call that a filter swallows is a doubt",
        ("operation_name", "api_params"),
    ),
    Seam("c7n.element:Element.executor_factory", "watched: a thread that fails is a doubt"),
    Seam("c7n.manager:ResourceManager.executor_factory", "watched, as a filter's"),
    Seam("c7n.resolver:ValuesFrom.get_values", "watched: a page isn't a list"),
    # -- the registries
    Seam("c7n.resources.iam:User.filter_registry.register", "our filters", ("name", "klass")),
    Seam("c7n.resources.iam:User.action_registry.register", "our actions", ("name", "klass")),
    Seam("c7n.resources.iam:User.source_mapping", "our source"),
    Seam("c7n.query:sources.register", "our source's word, for the schema", ("name", "klass")),
    Seam("c7n.query:sources.unregister", "taken back if the pack can't be added whole", ("name",)),
    # -- output, sessions, small things
    Seam("c7n.output:Metrics.put_metric", "the run's counts", ("key", "value", "unit")),
    Seam("c7n.output:DirectoryOutput.write_file", "users of a failed run", ("rel_path", "value")),
    Seam("c7n.output:BlobOutput.upload", "replaced on the output: a failed upload is reported"),
    Seam("c7n.output:BlobOutput.upload_file", "intents go to the bucket", ("path", "key")),
    Seam(
        "c7n.credentials:SessionFactory.__call__",
        "the credentials before a role, since the run's own key is never touched",
        ("assume",),
    ),
    Seam(
        "botocore.credentials:AssumeRoleCredentialFetcher",
        "the credentials that a profile's role is taken with, for the same reason",
        ("source_credentials",),
        _keeps_its_source,
    ),
    Seam(
        "botocore.credentials:DeferredRefreshableCredentials",
        "leads to these",
        ("refresh_using",),
        _keeps_how_to_refresh,
    ),
    Seam(
        "botocore.credentials:create_mfa_serial_refresher",
        "stands between, with mfa_serial",
        holds=_wraps,
    ),
    Seam("c7n.utils:local_session", "the session that an IAM client is kept on", ("factory",)),
    Seam("c7n.utils:dumps", "resources.json of a failed run"),
    Seam("c7n.utils:type_schema", "the schema of our words", ("type_name",)),
    Seam("c7n.utils:get_partition", "the ARNs of findings", ("region",)),
    Seam("c7n.exceptions:PolicyExecutionError", "how one of our runs fails"),
    Seam("c7n.exceptions:PolicyValidationError", "how one of our policies is refused"),
    Seam("c7n.exceptions:ResourceLimitExceeded", "max-resources"),
    Seam(
        "c7n.handler:dispatch_event",
        "a Lambda function's entry; it validates, too",
        ("event", "context"),
        _validates,
    ),
    # -- the doctor loads policies as Custodian and c7n-org do
    Seam("c7n.config:Config.empty", "the options that doctor loads policies with"),
    Seam("c7n.loader:PolicyLoader.load_data", "doctor, as custodian", ("policy_data", "file_uri")),
    Seam("c7n.policy:PolicyCollection.from_data", "doctor, as c7n-org", ("data", "options")),
    Seam("c7n.policy:Policy.expand_variables", "doctor", ("variables",)),
    Seam("c7n.policy:Policy.get_variables", "doctor", ("variables",)),
    Seam("c7n.policy:Policy.get_permissions", "doctor: which calls a policy makes"),
    Seam("c7n.policy:Policy.is_runnable", "doctor: which policies run where"),
    Seam("c7n.resources:load_resources", "doctor", ("resource_types",)),
    Seam("c7n_org.cli:CONFIG_SCHEMA", "doctor: accounts.yml", holds=_is_schema),
    # -- c7n-org, in `c7n-keyrot org`
    Seam("c7n_org.cli:init", "watched: the policies that are to be run", ("use",)),
    Seam("c7n_org.cli:as_completed", "watched: the accounts that nothing ran in", ("fs",)),
    Seam("c7n_org.cli:run", "it goes through both", holds=_goes_through_futures),
    Seam("c7n_mailer.cli:CONFIG_SCHEMA", "doctor: mailer.yml", holds=_is_schema),
    # -- c7n-mailer, in `c7n-keyrot mailer`
    Seam(
        "c7n_mailer.cli:get_and_validate_mailer_config",
        "replaced: an error quotes no password",
        ("args",),
    ),
    Seam(
        "c7n_mailer.email_delivery:EmailDelivery.get_emails_to_resources_map",
        "watched: a notice that has no address is an error",
        ("sqs_message",),
    ),
    Seam("c7n_mailer.cli:get_processor", "replaced: only SQS is read", ("mailer_config", "logger")),
    Seam("c7n_mailer.cli:get_logger", "replaced: --debug logs no credentials", ("debug",)),
    Seam(
        "c7n_mailer.email_delivery:EmailDelivery.get_resource_owner_emails_from_resource",
        "watched: an owner's tag that is no address",
        ("sqs_message", "resource"),
    ),
    Seam(
        "c7n_mailer.email_delivery:EmailDelivery.send_c7n_email",
        "replaced: a mail that isn't taken leaves its message in the queue",
        ("sqs_message",),
    ),
    Seam(
        "c7n_mailer.email_delivery:EmailDelivery.get_valid_emails_from_list",
        "who gets a notice in the owner's place",
        ("targets",),
    ),
    Seam(
        "c7n_mailer.utils_email:get_mimetext_message",
        "a mail's headers and body",
        ("config", "logger", "message", "resources", "to_addrs"),
    ),
    Seam(
        "c7n_mailer.utils:get_rendered_jinja",
        "the text beside the HTML",
        ("target", "sqs_message", "resources", "logger", "specified_template"),
    ),
    Seam("c7n_mailer.utils:get_jinja_env", "replaced: made once", ("template_folders",)),
    Seam(
        "c7n_mailer.utils:decrypt",
        "smtp_password",
        ("config", "logger", "session", "encrypted_field"),
    ),
    Seam(
        "c7n_mailer.slack_delivery:SlackDelivery.get_to_addrs_slack_messages_map",
        "watched: one that fails stops no mail",
        ("sqs_message",),
    ),
    Seam(
        "c7n_mailer.slack_delivery:SlackDelivery.retrieve_user_im",
        "replaced: what Slack refuses is an error",
        ("email_addresses",),
    ),
    Seam(
        "c7n_mailer.slack_delivery:SlackDelivery.slack_handler",
        "replaced: what Slack refuses is an error, and no webhook is logged",
        ("sqs_message", "slack_messages"),
    ),
    Seam(
        "c7n_mailer.sqs_queue_processor:MailerSqsQueueIterator.__next__",
        "replaced: one message at a time, and none again in one round",
    ),
    Seam(
        "c7n_mailer.sqs_queue_processor:MailerSqsQueueProcessor.process_sqs_message",
        "replaced: a message is checked, and what it brings isn't run",
        ("encoded_sqs_message",),
    ),
    Seam(
        "c7n_mailer.sqs_queue_processor:MailerSqsQueueIterator.ack",
        "replaced: a message that was refused, or failed, stays in the queue",
        ("m",),
    ),
    Seam(
        "c7n_mailer.sqs_queue_processor:MailerSqsQueueProcessor.run",
        "each message goes through both",
        holds=_goes_through_both,
    ),
    # -- botocore
    Seam("boto3:Session", "botocore's session in it", holds=_has_core),
    Seam("botocore.session:Session", "credentials of a role that was taken", holds=_is_kept_apart),
    Seam("botocore.session:Session.register_component", "models read once", ("name", "component")),
    Seam("botocore.session:Session", "models read once", holds=_takes_loader),
    Seam("botocore.session:Session.get_partition_for_region", "a region's partition"),
    Seam("botocore.session:get_session", "a session for a role"),
    Seam("botocore.loaders:create_loader", "models read once"),
    Seam(
        "botocore.credentials:RefreshableCredentials.create_from_metadata",
        "credentials of a role that renew themselves",
        ("metadata", "refresh_using", "method"),
    ),
    Seam("botocore.config:Config", "retries and timeouts"),
    Seam("botocore.exceptions:ClientError", "an error of AWS"),
    Seam("botocore.exceptions:BotoCoreError", "every other error of a call"),
    Seam("botocore.exceptions:ConfigNotFound", "what is wrong with a configuration"),
    Seam("botocore.exceptions:ConfigParseError", "what is wrong with a configuration"),
    Seam("botocore.exceptions:ProfileNotFound", "what is wrong with a configuration"),
    Seam("boto3.exceptions:Boto3Error", "what else a command ends with"),
    Seam("botocore.exceptions:HTTPClientError", "an answer that isn't AWS's is retried so"),
    Seam("botocore.client:BaseClient", "its _endpoint is given the gate", ("endpoint",)),
    Seam("botocore.endpoint:Endpoint", "its http_session is replaced by the gate"),
    Seam("botocore.endpoint:Endpoint._send", "it calls the gate", ("request",)),
    Seam("botocore.httpsession:URLLib3Session.send", "called by the gate", ("request",)),
)


def moved(seams: tuple[Seam, ...] = SEAMS) -> Iterator[str]:
    """Yield a line for each seam that no longer exists, or isn't what our code relies on."""
    with contextlib.suppress(ImportError):
        # As Custodian itself does: its modules import each other, and not every order works.
        importlib.import_module("c7n.policy")
    for seam in seams:
        module, _, path = seam.place.partition(":")
        if module.partition(".")[0] in EXTRAS and not _is_installed(module):
            continue
        try:
            found: Any = importlib.import_module(module)
            for name in path.split("."):
                found = getattr(found, name)
        except Exception as error:  # noqa: BLE001 - whatever an import raises
            yield f"{seam.place} doesn't exist ({error}): {seam.use}"
            continue
        if seam.parameters:
            missing = set(seam.parameters) - inspect.signature(found).parameters.keys()
            if missing:
                yield f"{seam.place} has no {', '.join(sorted(missing))}: {seam.use}"
                continue
        if seam.holds is not None and not _holds(seam.holds, found):
            yield f"{seam.place} doesn't do what it did: {seam.use}"


def is_newer(version: str) -> bool:
    """Tell whether a release of c7n is newer than all that were tested."""
    return _numbers(version) > _numbers(TESTED[1])


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _holds(holds: Callable[[Any], object], found: Any) -> bool:
    try:
        return bool(holds(found))
    except Exception:  # noqa: BLE001 - whatever has become of it
        return False
