"""Settings of the whole application: file, environment and flags, read through pydantic-settings."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from contracts.base import Options

Port = Annotated[int, Field(ge=1, le=65535)]
Url = Annotated[str, Field(pattern=r"^(https?://[^\s\"'<>]+)?$")]
"""An address that a page may link to; empty: there is none."""
Role = Literal["viewer", "engineer", "admin"]
"""What somebody may do in the console, and all that those before may: look; judge, train, set; read the audit trail."""


class KafkaOptions(Options):
    """Where Kafka is, and how LogCanary's topics are called."""

    bootstrap: str = "127.0.0.1:9092"
    """Broker addresses, ``host:port`` with commas between."""
    log_prefix: str = "logs."
    """A topic with this prefix belongs to the service named by the rest."""
    detections: str = "logcanary.detections"
    """Topic of findings,"""
    statistics: str = "logcanary.statistics"
    """of what operators did with each micro-batch, for the exporter,"""
    deadletters: str = "logcanary.deadletters"
    """of lines that could not be parsed,"""
    control: str = "logcanary.control"
    """of settings, catalogue, bundle pointers and verdicts,"""
    audit: str = "logcanary.audit"
    """and of what was done in the console."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How brokers are spoken to: in the open, by TLS, with a name and password (SASL), or both."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How name and password are proven, where SASL is spoken."""
    sasl_username: str = ""
    """Who LogCanary is to the brokers."""
    sasl_password_file: str = ""
    """File that holds the password and nothing else, as Kubernetes and Docker mount secrets. The password is in no
    setting, so that nothing that prints, keeps or hands on settings can show it. Flink's workers read the same path."""
    ssl_cafile: str = ""
    """PEM file of the authorities that may have signed the brokers' certificates; empty: those of the machine."""

    @property
    def own(self) -> tuple[str, ...]:
        """The topics that are LogCanary's, and no service's whatever they are called."""
        return self.detections, self.statistics, self.deadletters, self.control, self.audit

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password_file):
            missing = "kafka.sasl_username and kafka.sasl_password_file"
            raise ValueError(f"kafka.security_protocol {self.security_protocol} needs {missing}")
        return self


class HdfsOptions(Options):
    """Where the archive and the registry are."""

    url: str = "http://127.0.0.1:9870"
    """A WebHDFS address, or ``file:///path`` for a local folder."""
    user: str = "logcanary"
    """Who LogCanary is to WebHDFS."""
    root: str = "/logcanary"
    """Folder of archive and registry."""


class FlinkOptions(Options):
    """Where the Flink cluster is, and how the job runs."""

    rest: str = "http://127.0.0.1:8081"
    """Address of the JobManager."""
    parallelism: int = Field(default=2, ge=1)
    """Instances of each operator, each with a Python process of its own."""
    checkpoint_seconds: float = Field(default=10.0, gt=0)
    """Between checkpoints: as much is read again after a crash."""
    checkpoints: str = ""
    """Folder or address of checkpoints; empty: the local stack's own folder."""
    batch_milliseconds: int = Field(default=200, ge=10, le=10_000)
    """A line waits at most this long for the others of its micro-batch."""
    buckets: int = Field(default=4, ge=1, le=1024)
    """Session buckets a service's lines are scored in."""
    max_line_bytes: int = Field(default=65_536, ge=256)
    """Longer lines are cut for parsing and counted; the archive keeps them whole."""
    late_seconds: float = Field(default=900.0, gt=0)
    """A line that is scored later than this after its arrival pages nobody: its detections are marked late."""
    batch_lines: int = Field(default=20_000, ge=100)
    """A larger micro-batch is parsed in pieces of this many lines."""


class ArchiveOptions(Options):
    """How raw lines are kept."""

    roll_seconds: int = Field(default=600, ge=1)
    """A file holds lines of one slot of this length (by Kafka's timestamp) at most."""
    roll_lines: int = Field(default=500_000, ge=1)
    """Lines after which a file is closed."""
    roll_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """Uncompressed bytes after which a file is closed."""
    group: str = "logcanary-archiver"
    """Consumer group by which archivers share the partitions."""
    retention_days: float | None = Field(default=None, gt=0)
    """``logcanary archive expire`` deletes what is older; None: it has to be told. Nothing deletes by itself."""


class WebOptions(Options):
    """Where LogCanary's own HTTP endpoints listen, and who may use the console; loopback unless told otherwise."""

    host: str = "127.0.0.1"
    """Off loopback the console answers only those whom ``access_file`` or ``proxy_header`` names."""
    exporter_port: Port = 9464
    """Of ``/metrics``."""
    exporter_url: Url = ""
    """Where others reach the exporter, such as ``http://exporter:9464``; empty: on this machine."""
    console_port: Port = 8080
    """Of the pages and the HTTP interface."""
    prometheus_port: Port = 9090
    """Of the local stack's Prometheus."""
    grafana: Url = ""
    """Where browsers reach Grafana; pages link to it. Empty: they do not."""
    access_file: str = ""
    """Who may use the console, as ``logcanary access add`` writes it: a name, a role and a token's SHA-256 a line."""
    proxy_header: str = ""
    """Header in which a proxy that knows who asks says their name, such as ``X-Forwarded-User``."""
    proxy_addresses: str = ""
    """Addresses or networks of that proxy, with commas between; from others the header is refused."""
    proxy_role: Role = "viewer"
    """Of those the proxy names and ``access_file`` does not."""
    url: Url = ""
    """The console that ``logcanary alerts``, ``verdict``, ``services``, ``models``, ``trainings`` and ``train`` ask, as
    ``https://console:8080``; empty: they ask Kafka and HDFS themselves."""
    token_file: str = ""
    """File that holds the token by which it knows who asks; empty: the variable ``LOGCANARY_TOKEN`` does."""
    tls_certificate: str = ""
    """PEM file of the console's certificate and those that signed it."""
    tls_key: str = ""
    """PEM file of its private key."""

    @property
    def asks(self) -> bool:
        """Whether those who use the console have to say who they are."""
        return bool(self.access_file or self.proxy_header)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.proxy_header) != bool(self.proxy_addresses):
            raise ValueError("web.proxy_header and web.proxy_addresses need each other: set both, or none")
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("web.tls_certificate and web.tls_key need each other: set both, or none")
        for address in filter(None, map(str.strip, self.proxy_addresses.split(","))):
            ip_network(address)
        return self


class AppSettings(BaseSettings):
    """Everything ``logcanary`` reads at its start.

    Sources, the later wins: defaults, the running local stack (``<home>/stack.toml``), the file named by
    ``LOGCANARY_CONFIG`` (or ``logcanary.toml`` here), the environment (``LOGCANARY_KAFKA__BOOTSTRAP=...``), flags.
    """

    model_config = SettingsConfigDict(
        env_prefix="LOGCANARY_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    home: Path = Path(".logcanary")
    """Folder of the local stack: data, logs, ports."""
    kafka: KafkaOptions = KafkaOptions()
    hdfs: HdfsOptions = HdfsOptions()
    flink: FlinkOptions = FlinkOptions()
    archive: ArchiveOptions = ArchiveOptions()
    web: WebOptions = WebOptions()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, the first wins: flags, environment, settings file, running local stack."""
        home = Path(os.environ.get("LOGCANARY_HOME", ".logcanary"))
        config = Path(os.environ.get("LOGCANARY_CONFIG", "logcanary.toml"))
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, config),
            TomlConfigSettingsSource(settings_cls, home / "stack.toml"),
        )
