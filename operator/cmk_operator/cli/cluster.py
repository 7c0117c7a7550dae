"""The cluster, read through kubectl: it supports every way to sign in, and the same options."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import click
from pydantic import ValidationError

from cmk_operator.api.model import GROUP
from cmk_operator.cli.skew import ServedDefinitions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.customer_tenant import CustomerTenant
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.api.federated_identity import FederatedIdentity
    from cmk_operator.api.organization_key import OrganizationKey

    OptionsP = ParamSpec("OptionsP")
    ResourceT = TypeVar("ResourceT", FederatedIdentity, CustomerTenant, CustomerManagedKey, EncryptedResource, OrganizationKey)

REPORTER: Final = f"{GROUP}/cmk-operator"
"""The controller by which the operator's events are known."""
FORBIDDEN: Final = "(Forbidden)"
"""Words by which kubectl says that the API server refuses something for want of a right."""
_PREFIX: Final = re.compile(r"^error: ", re.IGNORECASE | re.MULTILINE)
_CONFIGURATION: Final = re.compile(r"^Error in configuration: ", re.MULTILINE)
_SERVER: Final = re.compile(r"^Error from server(?= \(|:) ?", re.MULTILINE)
_LOG_LINE: Final = re.compile(r"[EWIF]\d{4} \d\d:\d\d:\d\d")
_NAME: Final = re.compile("[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster as one person sees it; `namespace` None stands for all namespaces."""

    kubeconfig: str | None = None
    context: str | None = None
    impersonated: str | None = None
    namespace: str | None = None
    groups: tuple[str, ...] = ()
    request_timeout: str | None = None
    served: ServedDefinitions = field(default_factory=ServedDefinitions, compare=False)
    unseen: set[str] = field(default_factory=set, compare=False)
    """Kinds of which the person was told that not all are seen."""

    def get(self, model: type[ResourceT], name: str) -> ResourceT:
        """A cluster-wide object. Raises click.ClickException in the words of kubectl."""
        return _read(model, self._json("get", f"{model.plural}.{GROUP}", checked_name(name)))

    def all(self, model: type[ResourceT]) -> tuple[ResourceT, ...]:
        """All objects of a kind in the namespace, or in all. Raises click.ClickException in the words of kubectl."""
        where = ["--namespace", self.namespace] if self.namespace else ["--all-namespaces"]
        try:
            listed = self._json("get", f"{model.plural}.{GROUP}", *where)
        except click.ClickException as error:
            if self.namespace or FORBIDDEN not in error.message:
                raise
            raise click.ClickException(f"{error.message}. If you may read one namespace only, name it: -n NAMESPACE") from error
        return tuple(_read(model, item) for item in listed["items"])

    def all_beside(self, model: type[ResourceT], key: CustomerManagedKey) -> tuple[ResourceT, ...]:
        """As `all`, but of the key's namespace if no more may be read, with one warning. Raises click.ClickException."""
        try:
            return self.all(model)
        except click.ClickException as error:
            if self.namespace or FORBIDDEN not in error.message:
                raise
            namespace = key.metadata.namespace
            found = replace(self, namespace=namespace).all(model)
            if model.__name__ not in self.unseen:
                warn(f"{model.__name__}s of other namespaces than {namespace} are not seen: you may not list them")
                self.unseen.add(model.__name__)
            return found

    def find(self, model: type[ResourceT], name: str) -> ResourceT:
        """An object in a namespace by `[NAMESPACE/]NAME`; without a namespace the only one of that name.

        Raises click.ClickException in the words of kubectl, and when several have the name.
        """
        namespace, _, short = name.rpartition("/")
        namespace = namespace or self.namespace or ""
        if namespace:
            where = ["--namespace", checked_name(namespace)]
            return _read(model, self._json("get", f"{model.plural}.{GROUP}", checked_name(short), *where))
        named = [item for item in self.all(model) if item.metadata.name == checked_name(short)]
        if len(named) == 1:
            return named[0]
        if not named:
            raise click.ClickException(f"there is no {model.__name__} {short!r}")
        there = ", ".join(f"{item.metadata.namespace}/{item.metadata.name}" for item in named)
        raise click.ClickException(f"several objects have the name {short!r}; choose one of: {there}")

    def all_cluster_wide(self, model: type[ResourceT]) -> tuple[ResourceT, ...]:
        """All objects of a kind that has no namespaces. Raises click.ClickException in the words of kubectl."""
        return tuple(_read(model, item) for item in self._json("get", f"{model.plural}.{GROUP}")["items"])

    def events(self) -> list[dict[str, Any]]:
        """Kubernetes' events that the operator made, of the namespace or of all. Raises click.ClickException."""
        where = ["--namespace", self.namespace] if self.namespace else ["--all-namespaces"]
        listed = self._json("get", "events.events.k8s.io", *where)
        return [event for event in listed["items"] if event.get("reportingController") == REPORTER]

    def annotate(self, model: type[ResourceT], found: ResourceT, annotation: str, value: str) -> None:
        """Set one annotation of an object in a namespace. Raises click.ClickException in the words of kubectl."""
        where = ["--namespace", found.metadata.namespace or "default", "--overwrite"]
        self._json("annotate", f"{model.plural}.{GROUP}", found.metadata.name, f"{annotation}={value}", *where)

    def parsed(self, files: Sequence[str], *, recursive: bool) -> list[dict[str, Any]]:
        """The manifests in files as kubectl reads them, each with its namespace; nothing is judged or made.

        Raises click.ClickException in the words of kubectl.
        """
        where = ["--namespace", self.namespace] if self.namespace else []
        names = [f"--filename={name}" for name in files] + (["--recursive"] if recursive else [])
        text = self._run("create", "--dry-run=client", "--validate=ignore", *names, *where, "--output", "json")
        decoder, position = json.JSONDecoder(), 0
        found: list[dict[str, Any]] = []
        while position < len(text):
            body, end = decoder.raw_decode(text, position)
            found += body["items"] if body.get("kind") == "List" else [body]
            position = len(text) - len(text[end:].lstrip())
        return found

    def dry_run(self, body: dict[str, Any]) -> dict[str, Any] | str:
        """The object as it would be after `kubectl apply`, or the words in which the API server refuses it."""
        try:
            return self._json("apply", "--dry-run=server", "--filename", "-", stdin=json.dumps(body))
        except click.ClickException as error:
            return error.message

    def spec_of(self, plural: str, name: str) -> dict[str, Any] | None:
        """The spec of a cluster-wide object; None when there is none, or it may not be read."""
        try:
            found: dict[str, Any] = self._json("get", f"{plural}.{GROUP}", name)["spec"]
        except click.ClickException:
            return None
        return found

    def answered(self, request: dict[str, Any], timeout: int) -> dict[str, Any]:
        """Create a request to the operator, wait for its answer, and delete it. Raises click.ClickException."""
        made = self._json("create", "--filename", "-", stdin=json.dumps(request))
        which = [f"preflights.{GROUP}", made["metadata"]["name"], "--namespace", made["metadata"]["namespace"]]
        try:
            return self._json("wait", *which, "--for=condition=Complete", f"--timeout={timeout}s")
        except click.ClickException as error:
            if "timed out" not in error.message:
                raise
            raise click.ClickException(f"the operator did not answer within {timeout} s: {self._hindrance(which)}") from error
        finally:
            with contextlib.suppress(click.ClickException):  # the operator deletes it in ten minutes
                self._run("delete", *which, "--wait=false", "--ignore-not-found")

    def _hindrance(self, which: Sequence[str]) -> str:
        """What a request says of why it has no answer."""
        with contextlib.suppress(click.ClickException):
            conditions = self._json("get", *which).get("status", {}).get("conditions", [])
            if conditions:
                return str(conditions[0]["message"])
        return "is it running?"

    def config_maps(self, namespace: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """Those of some ConfigMaps that exist. Raises click.ClickException in the words of kubectl.

        By one list where that is allowed: kubectl asks for names one after the other, at five a second.
        """
        try:
            listed = self._json("get", "configmaps", "--namespace", namespace)
            return [item for item in listed["items"] if item["metadata"]["name"] in names]
        except click.ClickException as error:
            if "forbidden" not in error.message.lower():
                raise
        where = ["--namespace", namespace, "--ignore-not-found"]
        listed = self._json("get", "configmaps", *names, *where)
        return list(listed.get("items", [listed] if listed else []))

    def _json(self, *arguments: str, stdin: str | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._run(*arguments, "--output", "json", stdin=stdin) or "{}")
        return answer

    def leases(self, namespace: str) -> list[dict[str, Any]]:
        """The Leases of a namespace. Raises click.ClickException in the words of kubectl."""
        listed: list[dict[str, Any]] = self._json("get", "leases", "--namespace", checked_name(namespace))["items"]
        return listed

    def description(self) -> dict[str, Any] | str:
        """How the API server describes the kinds, or why it does not. Raises click.ClickException without kubectl."""
        try:
            self.served.ask(self._kubectl())
        except FileNotFoundError as error:
            raise _without_kubectl() from error
        return self.served.answer()

    def _kubectl(self) -> list[str]:
        """The program with the options of the connection."""
        options = {
            "--kubeconfig": self.kubeconfig,
            "--context": self.context,
            "--as": self.impersonated,
            "--request-timeout": self.request_timeout,
        }
        given = [f"{option}={value}" for option, value in options.items() if value is not None]
        return ["kubectl", *given, *(f"--as-group={group}" for group in self.groups)]

    def _run(self, *arguments: str, stdin: str | None = None) -> str:
        kubectl = self._kubectl()
        try:
            self.served.ask(kubectl)
            done = subprocess.run(  # noqa: S603 - arguments of our own, no shell
                [*kubectl, *arguments],
                # What is not given a text reads what this command is given: `-f -` is kubectl's own.
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except FileNotFoundError as error:
            raise _without_kubectl() from error
        if done.returncode != 0:
            raise click.ClickException(without_prefix(done.stderr) or f"kubectl exited with {done.returncode}")
        return done.stdout


def _without_kubectl() -> click.ClickException:
    return click.ClickException("kubectl is not on the PATH: install it, or add it to the PATH")


def without_prefix(text: str) -> str:
    """What kubectl says of a failure without "error:", which would be a second one, and without lines of its log."""
    lines = text.strip().splitlines()
    said = "\n".join([line for line in lines if not _LOG_LINE.match(line)] or lines)
    return _SERVER.sub("the API server answers ", _CONFIGURATION.sub("kubectl's configuration: ", _PREFIX.sub("", said)))


def warn(sentence: str) -> None:
    """Tell a person what does not change the answer, apart from it: on standard error."""
    click.echo(f"Warning: {sentence}", err=True)


def checked_name(name: str) -> str:
    """A name that kubectl cannot take for an option. Raises click.ClickException."""
    if not _NAME.fullmatch(name):
        raise click.ClickException(f"{name!r} is not the name of an object")
    return name


def _read(model: type[ResourceT], body: dict[str, Any]) -> ResourceT:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        name = body.get("metadata", {}).get("name")
        message = f"{model.__name__} {name} has fields that this version does not understand: use the version of the operator"
        raise click.ClickException(f"{message}\n{error}") from error


CONNECTION: Final = ("kubeconfig", "context", "impersonated", "groups", "request_timeout", "namespace", "all_namespaces")
"""The names of kubectl's own options."""


def connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add kubectl's own options to a command or to the group of all commands."""
    for option in reversed(
        (
            click.option("--kubeconfig", metavar="FILE", help="Configuration file, as for kubectl."),
            click.option("--context", metavar="NAME", help="Context of the configuration file, as for kubectl."),
            click.option("--as", "impersonated", metavar="USER", help="User to impersonate, as for kubectl."),
            click.option("--as-group", "groups", metavar="GROUP", multiple=True, help="Group to impersonate; may be repeated."),
            click.option("--request-timeout", metavar="TIME", help="Patience with one request, such as 30s, as for kubectl."),
            click.option("-n", "--namespace", metavar="NAME", help="Only this namespace. The default is all namespaces."),
            click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces, which is the default."),
        )
    ):
        command = option(command)
    return command


def cluster_options(command: Callable[Concatenate[Cluster, OptionsP], None]) -> Callable[..., None]:
    """Give a command kubectl's own options; it gets the cluster as its first argument.

    They may stand before the command, too, as with kubectl: what stands behind it counts.
    """

    @connection_options
    @click.pass_context
    @functools.wraps(command)
    def with_cluster(context: click.Context, /, *arguments: OptionsP.args, **options: OptionsP.kwargs) -> None:
        given = {**(context.obj or {}), **{name: value for name in CONNECTION if (value := options.pop(name))}}
        if given.get("namespace") and given.get("all_namespaces"):
            raise click.UsageError("--namespace and --all-namespaces exclude each other")
        namespace = given.get("namespace")
        cluster = Cluster(
            given.get("kubeconfig"),
            given.get("context"),
            given.get("impersonated"),
            checked_name(namespace) if namespace else None,
            tuple(given.get("groups", ())),
            given.get("request_timeout"),
        )
        try:
            command(cluster, *arguments, **options)
        finally:
            for sentence in cluster.served.warnings():
                warn(sentence)

    return with_cluster
