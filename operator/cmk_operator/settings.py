"""Settings of the operator process, from flags and environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, HttpUrl, model_validator
from pydantic_settings import SettingsConfigDict

from cmk_operator.process_settings import ProcessSettings
from cmk_operator.providers.storage.kind import STORAGE_RATES


class Settings(ProcessSettings):
    """The operator keeps Azure resources encrypted with customers' own keys, as declared by custom resources in Kubernetes.

    Every flag can also be set by the environment variable CMK_OPERATOR_<NAME>. `cmk-operator check` asks, with the same settings
    and without changing anything, whether the installation can work.
    """

    model_config = SettingsConfigDict(
        env_prefix="CMK_OPERATOR_", frozen=True, cli_kebab_case=True, cli_prog_name="cmk-operator", cli_hide_none_type=True
    )

    key_check_interval: float = Field(default=45.0, ge=1, description="Seconds between probes of a key.")
    drift_check_interval: float = Field(default=300.0, ge=1, description="Seconds between reconciles of a resource.")
    identity_check_interval: float = Field(
        default=300.0, ge=1, description="Seconds between checks of identities and consents."
    )
    reference_grace: float = Field(
        default=30.0,
        ge=0,
        description="Seconds for which a missing key, tenant, identity or Secret counts as still to come, before a person must act.",
    )
    workers: int = Field(default=16, ge=1, le=128, description="Resources reconciled at the same time.")
    key_workers: int = Field(default=16, ge=1, le=128, description="Keys reconciled at the same time.")
    log_format: Literal["json", "text"] = Field(default="json", description="Format of log lines on standard error.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest severity that is logged."
    )
    listen_address: str = Field(default="0.0.0.0", description="Address of /healthz, /readyz and /metrics.")  # noqa: S104 - the kubelet and Prometheus ask from outside the pod
    listen_port: int = Field(default=8080, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics.")
    shutdown_grace: float = Field(default=25.0, ge=0, description="Seconds that running reconciles may take at shutdown.")
    lease_duration: float = Field(
        default=15.0, ge=1, description="Seconds without a renewal after which a standby takes the lease over."
    )
    arm_reads: float = Field(
        default=200, gt=0, description="Resource Manager reads per subscription in a burst, refilled in 10 s."
    )
    arm_writes: float = Field(
        default=195, gt=0, description="Resource Manager writes per subscription in a burst, refilled in 20 s."
    )
    storage_reads: float = Field(
        default=STORAGE_RATES.reads.burst, gt=0, description="Storage account reads per subscription in 5 minutes."
    )
    storage_lists: float = Field(
        default=STORAGE_RATES.lists.burst, gt=0, description="Storage account lists per subscription in 5 minutes."
    )
    storage_writes: float = Field(
        default=STORAGE_RATES.writes.burst, gt=0, description="Storage account writes per subscription in an hour."
    )
    storage_writes_per_second: float = Field(
        default=9.5, gt=0, description="Storage account writes per subscription in a second, evenly spread."
    )
    vault_calls: float = Field(default=400, gt=0, description="Calls per vault in 10 s.")
    resource_metrics: bool = Field(default=True, description="Whether each EncryptedResource has metrics of its own.")
    audit_segment_bytes: int = Field(
        default=32_768,
        ge=2_048,
        le=524_288,
        description="Size of one of the 64 ConfigMaps of the audit record; with 32768 about 2,500 entries stay in the cluster.",
    )
    audit_sink_url: HttpUrl | None = Field(
        default=None, description="URL (http or https) to which copies of audit entries are posted as newline-delimited JSON."
    )
    audit_sink_token_file: Path | None = Field(default=None, description="File with a bearer token for the audit sink.")
    federated_token_file: Path | None = Field(
        default=None,
        description="File with the ServiceAccount token for Entra; if unset: what AZURE_FEDERATED_TOKEN_FILE names.",
    )
    lease_namespace: str = Field(
        default="kube-system",
        description="Namespace of the lease. Releases that share a cluster must name the same one, so that only one of a class acts.",
    )
    operator_class: str = Field(
        default="",
        pattern="^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$",
        max_length=40,
        description="Serve only FederatedIdentities with this spec.operatorClass, and everything below them; if empty: those without.",
    )
    licences: bool = Field(
        default=False,
        description="Whether an organization needs a licence for a key of its own (the chart's value licences.enabled).",
    )
    support_requests: bool = Field(
        default=False,
        description=(
            "Whether SupportRequests make administrators of organizations. Set it only where the admission policy for them is in force "
            "(the chart's value supportRequests.enabled)."
        ),
    )
    instance: str = Field(
        default="cmk-operator",
        min_length=1,
        description="Name of this process in events and in the lease, which no two running processes may share; if unset: HOSTNAME.",
    )

    @model_validator(mode="after")
    def _send_no_token_in_the_clear(self) -> Self:
        url = self.audit_sink_url
        if url is not None and self.audit_sink_token_file is not None and url.scheme != "https":
            raise ValueError(
                "audit_sink_url must start with https:// if audit_sink_token_file is set: a bearer token needs TLS"
            )
        return self
