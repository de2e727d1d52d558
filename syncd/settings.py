"""The configuration: the only reader of the environment and of configuration files (contract 2).

Environment ``SYNCD_…`` with ``__`` between levels, over an optional TOML file, over the defaults
below. A secret may come from a file: ``…_FILE``, or a file of its name in ``SYNCD_SECRETS_DIR``.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.core.errors import BadConfiguration
from syncd.core.policy import FirstLink, Tie

PREFIX = "SYNCD_"
SERVICE_LINK = re.compile(r"SYNCD_(SERVICE_(HOST|PORT)|PORT)(_|$)")
"""What Kubernetes puts into every pod beside a Service named syncd."""


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_blank_is_none)]
OptionalText = Annotated[str | None, BeforeValidator(_blank_is_none)]
OptionalPath = Annotated[Path | None, BeforeValidator(_blank_is_none)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Database(Section):
    url: str = Field(
        "sqlite:///syncd.db",
        pattern=r"^(sqlite:///|postgresql://).+",
        description="`postgresql://user@host/name` for more than one replica, or `sqlite:///file`",
        examples=["postgresql://syncd@db.example/syncd"],
    )


class Kafka(Section):
    bootstrap_servers: OptionalText = Field(
        None, description="Brokers, comma between them; required for `run`", examples=["kafka-1:9092"]
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: OptionalText = None
    sasl_password: OptionalSecret = None
    ca_file: OptionalPath = None
    cert_file: OptionalPath = None
    key_file: OptionalPath = None
    group_id: str = "syncd"
    events_topic: str = Field("crm.customers", description="CRM change events, key = CRM customer id")
    commands_topic: str = Field("syncd.crm.commands", description="What the CRM should change")
    links_topic: str = Field("syncd.links", description="Compacted; the mapping table")
    dead_letters_topic: str = "syncd.dead-letters"
    products_topic: str = Field("syncd.products", description="Compacted; the catalogue, as it was last imported")
    orders_topic: OptionalText = Field(
        None,
        description="Orders from the CRM, key = its order id; none are taken without it",
        examples=["crm.orders"],
    )
    order_status_topic: str = Field("syncd.orders", description="What becomes of those orders")
    contracts_topic: OptionalText = Field(
        None,
        description="Seats under contract, from the CRM; without it none are compared",
        examples=["crm.contracts"],
    )
    subscriptions_topic: str = Field("syncd.subscriptions", description="Compacted; what customers are subscribed to")
    drift_topic: str = Field("syncd.licence-drift", description="How seats moved between two snapshots")
    create_topics: bool = Field(False, description="Create missing topics with sane settings")


class Ion(Section):
    url: str = Field("https://ion.tdsynnex.com", pattern=r"^https?://.+")
    account_id: OptionalText = Field(
        None, description="Your reseller account id; required", examples=["20481"], pattern=r"^[\w-]+$"
    )
    refresh_token: OptionalSecret = Field(
        None, description="First token only; later ones live encrypted in the database"
    )
    access_token: OptionalSecret = None
    client_id: OptionalText = None
    client_secret: OptionalSecret = None
    dialect: Literal["auto", "live", "seed"] = Field("auto", description="auto looks at the first list answer")
    calls_per_minute: int = Field(
        30, ge=2, le=100_000, description="Hard ceiling over all replicas, token calls included"
    )
    page_size: Literal["auto"] | Annotated[int, Field(ge=1, le=10_000)] = Field(
        "auto", description="auto: the largest the server accepts, remembered"
    )
    timeout_seconds: float = Field(30, gt=0, le=600)


class Poll(Section):
    interval_seconds: float = Field(60, gt=0, le=86_400, description="From sweep start to sweep start")


class Verify(Section):
    interval_seconds: float = Field(
        3_600, gt=0, le=2_592_000, description="Between two comparisons of all linked customers"
    )


class Rescore(Section):
    interval_seconds: float = Field(
        86_400, gt=0, le=2_592_000, description="Between two looks at whether old links still look like one"
    )


class Crm(Section):
    sink: Literal["kafka", "http"] = Field(
        "kafka", description="`kafka` writes commands; `http` calls the CRM's REST API"
    )
    url: OptionalText = Field(None, examples=["https://crm.example/api"])
    token: OptionalSecret = None


class Sync(Section):
    tie: Tie = Field(Tie.CRM, description="Who wins when two edits can't be ordered")
    first_link: FirstLink = Field(FirstLink.CRM, description="Who wins on a field where a newly linked pair differs")
    fresh_seconds: float = Field(
        10, gt=0, le=600, description="How old the ION reading under a full-record PUT may be"
    )
    clock_skew_seconds: float = Field(2, ge=0, le=3_600)
    create_in_ion: bool = Field(True, description="Off: unmatched CRM customers wait in review")
    create_in_crm: bool = Field(True, description="Off: unmatched ION customers wait in review")
    crm_delete: Literal["keep", "review"] = Field("keep", description="What a CRM deletion does")


class Guard(Section):
    max_creates: int = Field(100, ge=0, description="In any rolling hour, over all replicas; 0 = no limit")
    max_updates: int = Field(300, ge=0)
    max_cleared_fields: int = Field(20, ge=0)
    max_link_changes: int = Field(20, ge=0)
    max_percent: int = Field(30, ge=0, le=100, description="Of linked customers, once there are 50")


class Catalogue(Section):
    interval_seconds: float = Field(
        0, ge=0, description="From one import of the catalogue to the next; 0 = only by `syncd ion products import`"
    )


class Subscriptions(Section):
    interval_seconds: float = Field(
        604_800, ge=0, description="From one snapshot of all licences to the next; 0 = only by command"
    )


class Orders(Section):
    max_value: Decimal = Field(
        Decimal(1000),
        ge=0,
        description="What an order from the CRM may cost without a person; 0 = each waits for one",
    )


class Admin(Section):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    token: OptionalSecret = Field(
        None, description="Bearer token for /v1 and the console; required when the host is not loopback"
    )


class Traces(Section):
    url: OptionalText = Field(
        None,
        pattern=r"^https?://.+",
        description="A collector that takes OpenTelemetry's spans by OTLP over HTTP; off without one",
        examples=["http://collector:4318/v1/traces"],
    )


class Log(Section):
    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")

    database: Database = Database()  # type: ignore[call-arg]
    kafka: Kafka = Kafka()  # type: ignore[call-arg]
    ion: Ion = Ion()  # type: ignore[call-arg]
    poll: Poll = Poll()  # type: ignore[call-arg]
    verify: Verify = Verify()  # type: ignore[call-arg]
    rescore: Rescore = Rescore()  # type: ignore[call-arg]
    crm: Crm = Crm()  # type: ignore[call-arg]
    sync: Sync = Sync()  # type: ignore[call-arg]
    guard: Guard = Guard()  # type: ignore[call-arg]
    catalogue: Catalogue = Catalogue()  # type: ignore[call-arg]
    subscriptions: Subscriptions = Subscriptions()  # type: ignore[call-arg]
    orders: Orders = Orders()  # type: ignore[call-arg]
    mapping_file: OptionalPath = Field(None, description="Field paths, directions, converters, value tables")
    secret_key: OptionalSecret = Field(
        None,
        description="Encrypts tokens and archived values at rest; several, with commas, rotate."
        " Generated beside SQLite, required with PostgreSQL",
    )
    admin: Admin = Admin()  # type: ignore[call-arg]
    log: Log = Log()
    traces: Traces = Traces()  # type: ignore[call-arg]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # the sources are merged by ``load`` below, which knows their origin

    @property
    def is_sqlite(self) -> bool:
        return self.database.url.startswith("sqlite")

    @property
    def sqlite_file(self) -> Path | None:
        """The file behind SQLite; ``None`` with PostgreSQL or a database in memory."""
        path = self.database.url.removeprefix("sqlite:///")
        return Path(path) if self.is_sqlite and path and ":memory:" not in path else None

    @property
    def secret_keys(self) -> list[str]:
        return self.secret_key.get_secret_value().split(",") if self.secret_key else []


def keys() -> Iterator[tuple[str, Any]]:
    """Every key as people write it (``ION__URL``) with its field."""
    for name, field in Settings.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            for part, leaf in inner.model_fields.items():
                yield f"{name}__{part}".upper(), leaf
        else:
            yield name.upper(), field


def load(
    config_file: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Settings, dict[str, str]]:
    """The settings, and where each key that was set came from.

    Raises ``BadConfiguration`` with one line a problem: the key, what was wrong, an example.
    """
    environ = os.environ if environ is None else environ
    named = config_file or (Path(environ["SYNCD_CONFIG"]) if environ.get("SYNCD_CONFIG") else None)
    known = dict(keys())
    problems: list[str] = []
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    found = {key: (value, str(named)) for key, value in _from_file(named).items()}
    found |= _from_environment(environ, problems)
    for key, (value, origin) in found.items():
        if key in known:
            merged[key], origins[key] = value, origin
        else:
            problems.append(_unknown(key, known))
    nested: dict[str, Any] = {}
    for key, value in merged.items():
        section, _, part = key.lower().partition("__")
        if part:
            nested.setdefault(section, {})[part] = value
        else:
            nested[section] = value
    try:
        settings = Settings(**nested)
    except ValidationError as error:
        said = [_problem(entry, known) for entry in error.errors(include_input=False, include_url=False)]
        problems += {line.partition(": ")[0]: line for line in reversed(said)}.values()  # one line a key
        raise BadConfiguration("\n".join(problems)) from None
    problems += _cross_checks(settings)
    if problems:
        raise BadConfiguration("\n".join(problems))
    return settings, origins


def require_for_ion(settings: Settings) -> None:
    if settings.ion.account_id is None:
        raise BadConfiguration(
            "SYNCD_ION__ACCOUNT_ID is missing: ION shows it under Account information; example: 20481"
        )


def require_for_run(settings: Settings) -> None:
    problems = []
    if settings.kafka.bootstrap_servers is None:
        problems.append("SYNCD_KAFKA__BOOTSTRAP_SERVERS is missing: name the brokers; example: kafka-1:9092")
    try:
        require_for_ion(settings)
    except BadConfiguration as missing:
        problems.append(missing.sentence)
    if problems:
        raise BadConfiguration("\n".join(problems))


def ensure_secret_key(settings: Settings) -> list[str]:
    """The keys that seal; with SQLite one is made beside the database file at the first start."""
    if settings.secret_keys:
        return settings.secret_keys
    if not settings.is_sqlite:
        raise BadConfiguration(
            "SYNCD_SECRET_KEY is missing: with PostgreSQL it must be given; make one with `syncd config new-key`"
        )
    if settings.sqlite_file is None:
        return [new_key()]
    path = settings.sqlite_file.with_suffix(".key")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(new_key() + "\n", encoding="ascii")
        return [path.read_text(encoding="ascii").strip()]
    except OSError as error:
        raise BadConfiguration(
            f"the key file {path} can't be used: {error.strerror}; or give SYNCD_SECRET_KEY"
        ) from None


def new_key() -> str:
    """A fresh key in the form that Fernet takes."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfiguration(f"the configuration file {path} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"the configuration file {path} is not TOML: {error}") from None
    flat: dict[str, Any] = {}
    for name, value in raw.items():
        if isinstance(value, dict):
            flat.update({f"{name}__{part}".upper(): leaf for part, leaf in value.items()})
        else:
            flat[name.upper()] = value
    return flat


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, str]]:
    """Key to value and origin: a variable, or the file that a variable or the secrets directory names."""
    found: dict[str, tuple[str, str]] = {}
    files = _secret_files(environ.get("SYNCD_SECRETS_DIR"), problems)
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in ("SYNCD_CONFIG", "SYNCD_SECRETS_DIR"):
            continue
        if SERVICE_LINK.match(name):
            continue
        key = name.removeprefix(PREFIX)
        if key.endswith("_FILE") and key.removesuffix("_FILE") in _secret_keys():
            files[key.removesuffix("_FILE")] = Path(value)
        else:
            found[key] = (value, "environment")
    for key, path in files.items():
        if key in found:
            problems.append(f"{PREFIX}{key} is given twice: as a variable and in the file {path}; keep one")
            continue
        try:
            found[key] = (path.read_text(encoding="utf-8").strip(), str(path))
        except OSError as error:
            problems.append(f"{PREFIX}{key}_FILE: the file {path} can't be read: {error.strerror}")
    return found


def _secret_files(directory: str | None, problems: list[str]) -> dict[str, Path]:
    if not directory:
        return {}
    if not Path(directory).is_dir():
        problems.append(f"SYNCD_SECRETS_DIR: {directory} is not a directory; example: /run/secrets/syncd")
        return {}
    files = [path for path in sorted(Path(directory).iterdir()) if path.is_file()]
    known, found = dict(keys()), dict[str, Path]()
    for path in files:
        key = path.name.upper().removeprefix(PREFIX)
        if key in known:
            found[key] = path
        elif path.name.upper().startswith(PREFIX):  # other files may lie beside them
            problems.append(f"{_unknown(key, known)}; it is a file in {directory}")
    return found


def _secret_keys() -> set[str]:
    return {key for key, field in keys() if "SecretStr" in str(field.annotation)} | {"DATABASE__URL"}


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(key, known, n=1)
    hint = f"; did you mean {PREFIX}{close[0]}?" if close else "; `syncd config schema` lists all keys"
    return f"{PREFIX}{key} is not a key of syncd{hint}"


def _problem(entry: Any, known: Mapping[str, Any]) -> str:
    key = "__".join(str(part) for part in entry["loc"][:2]).upper()
    if key not in known:
        key = str(entry["loc"][0]).upper()
    field = known.get(key)
    example = _example(field) if field is not None else ""
    said = entry["msg"][:1].lower() + entry["msg"][1:]
    return f"{PREFIX}{key}: {said}{example}"


def _example(field: Any) -> str:
    if field.examples:
        return f"; example: {field.examples[0]}"
    default = field.default
    return f"; example: {getattr(default, 'value', default)}" if default not in (None, "") else ""


def _cross_checks(settings: Settings) -> list[str]:
    problems = []
    if not _is_loopback(settings.admin.host) and settings.admin.token is None:
        problems.append(
            f"SYNCD_ADMIN__TOKEN is missing: required when SYNCD_ADMIN__HOST ({settings.admin.host}) is not"
            " loopback; example: a long random text"
        )
    if settings.crm.sink == "http" and settings.crm.url is None:
        problems.append(
            "SYNCD_CRM__URL is missing: required by SYNCD_CRM__SINK=http; example: https://crm.example/api"
        )
    if settings.is_sqlite and settings.sqlite_file is None and ":memory:" not in settings.database.url:
        problems.append("SYNCD_DATABASE__URL names no file; example: sqlite:///syncd.db")
    return problems


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def effective(settings: Settings) -> Iterator[tuple[str, object]]:
    """Every key with its value in force; secrets masked, and the password in a database URL too."""
    for key, _ in keys():
        section, _, part = key.lower().partition("__")
        value = getattr(getattr(settings, section), part) if part else getattr(settings, section)
        if isinstance(value, SecretStr):
            value = "********"
        elif key == "DATABASE__URL":
            value = re.sub(r"(://[^:/@]+):[^@]*@", r"\1:********@", str(value))
        yield key, str(value) if isinstance(value, Path) else getattr(value, "value", value)
