"""Contract 2: where settings come from, and what a mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.errors import BadConfiguration
from syncd.settings import (
    Settings,
    effective,
    ensure_secret_key,
    keys,
    load,
    require_for_run,
)

DEFAULTS = {
    "DATABASE__URL": "sqlite:///syncd.db",
    "KAFKA__GROUP_ID": "syncd",
    "KAFKA__EVENTS_TOPIC": "crm.customers",
    "KAFKA__COMMANDS_TOPIC": "syncd.crm.commands",
    "KAFKA__LINKS_TOPIC": "syncd.links",
    "KAFKA__DEAD_LETTERS_TOPIC": "syncd.dead-letters",
    "KAFKA__CREATE_TOPICS": False,
    "ION__URL": "https://ion.tdsynnex.com",
    "ION__DIALECT": "auto",
    "ION__CALLS_PER_MINUTE": 30,
    "ION__PAGE_SIZE": "auto",
    "ION__TIMEOUT_SECONDS": 30,
    "POLL__INTERVAL_SECONDS": 60,
    "CRM__SINK": "kafka",
    "SYNC__TIE": "crm",
    "SYNC__FIRST_LINK": "crm",
    "SYNC__FRESH_SECONDS": 10,
    "SYNC__CLOCK_SKEW_SECONDS": 2,
    "SYNC__CREATE_IN_ION": True,
    "SYNC__CREATE_IN_CRM": True,
    "SYNC__CRM_DELETE": "keep",
    "GUARD__MAX_CREATES": 100,
    "GUARD__MAX_UPDATES": 300,
    "GUARD__MAX_CLEARED_FIELDS": 20,
    "GUARD__MAX_LINK_CHANGES": 20,
    "GUARD__MAX_PERCENT": 30,
    "ADMIN__HOST": "127.0.0.1",
    "ADMIN__PORT": 8080,
    "LOG__FORMAT": "auto",
    "LOG__LEVEL": "info",
}


def problem(environ: dict[str, str], config: Path | None = None) -> str:
    with pytest.raises(BadConfiguration) as caught:
        load(config, environ)
    return caught.value.sentence


def test_the_defaults_are_the_contracts() -> None:
    settings, origins = load(environ={})
    found = dict(effective(settings))
    assert {key: found[key] for key in DEFAULTS} == DEFAULTS
    assert origins == {}


def test_the_environment_goes_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "syncd.toml"
    path.write_text('[ion]\naccount_id = "1"\ncalls_per_minute = 60\n')
    settings, origins = load(environ={"SYNCD_CONFIG": str(path), "SYNCD_ION__ACCOUNT_ID": "2"})
    assert (settings.ion.account_id, settings.ion.calls_per_minute) == ("2", 60)
    assert origins == {"ION__ACCOUNT_ID": "environment", "ION__CALLS_PER_MINUTE": str(path)}


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    settings, _ = load(environ={"SYNCD_ION__REFRESH_TOKEN_FILE": str(tmp_path / "token")})
    assert settings.ion.refresh_token is not None
    assert settings.ion.refresh_token.get_secret_value() == "from-a-file"
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "SYNCD_ADMIN__TOKEN").write_text("secret")
    (mounted / "ion__refresh_token").write_text("token")
    settings, _ = load(environ={"SYNCD_SECRETS_DIR": str(mounted)})
    assert settings.admin.token is not None
    assert settings.ion.refresh_token is not None


def test_what_kubernetes_adds_beside_a_service_of_our_name_is_passed_over() -> None:
    load(environ={"SYNCD_SERVICE_HOST": "10.0.0.1", "SYNCD_PORT": "tcp://x", "SYNCD_PORT_8080_TCP": "x"})


PROBLEMS = [
    pytest.param({"SYNCD_SYNC__TYE": "crm"}, "did you mean SYNCD_SYNC__TIE", id="an unknown key"),
    pytest.param({"SYNCD_WHATEVER": "1"}, "syncd config schema", id="nothing like it"),
    pytest.param({"SYNCD_ION__CALLS_PER_MINUTE": "many"}, "SYNCD_ION__CALLS_PER_MINUTE", id="a wrong type"),
    pytest.param({"SYNCD_ION__CALLS_PER_MINUTE": "0"}, "example: 30", id="out of range"),
    pytest.param({"SYNCD_SYNC__TIE": "me"}, "'crm', 'ion' or 'review'", id="an unknown choice"),
    pytest.param({"SYNCD_DATABASE__URL": "mysql://x"}, "SYNCD_DATABASE__URL", id="another database"),
    pytest.param({"SYNCD_ADMIN__HOST": "0.0.0.0"}, "SYNCD_ADMIN__TOKEN", id="open without a token"),
    pytest.param({"SYNCD_CRM__SINK": "http"}, "SYNCD_CRM__URL", id="a sink without its address"),
    pytest.param({"SYNCD_ION__REFRESH_TOKEN_FILE": "/nowhere"}, "/nowhere", id="a secret's file that is not there"),
    pytest.param({"SYNCD_CONFIG": "/nowhere.toml"}, "/nowhere.toml", id="a file that is not there"),
]


@pytest.mark.parametrize(("environ", "says"), PROBLEMS)
def test_a_mistake_is_named(environ: dict[str, str], says: str) -> None:
    assert says in problem(environ)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "syncd.toml"
    path.write_text("[ion")
    assert "not TOML" in problem({}, path)


def test_each_problem_has_its_line() -> None:
    assert len(problem({"SYNCD_A": "1", "SYNCD_SYNC__TIE": "x", "SYNCD_ION__DIALECT": "y"}).splitlines()) == 3


def test_running_needs_brokers_and_an_account() -> None:
    with pytest.raises(BadConfiguration) as caught:
        require_for_run(load(environ={})[0])
    assert len(caught.value.sentence.splitlines()) == 2


def test_secrets_are_masked_everywhere() -> None:
    environ = {
        "SYNCD_DATABASE__URL": "postgresql://me:hunter2@db/x",
        "SYNCD_ION__REFRESH_TOKEN": "hunter2",
        "SYNCD_SECRET_KEY": "hunter2",
    }
    settings, _ = load(environ=environ)
    assert "hunter2" not in str(dict(effective(settings)))
    assert "hunter2" not in repr(settings.ion)


def test_a_key_is_made_beside_sqlite_and_required_with_postgresql(tmp_path: Path) -> None:
    settings, _ = load(environ={"SYNCD_DATABASE__URL": f"sqlite:///{tmp_path}/syncd.db"})
    made = ensure_secret_key(settings)
    assert made == ensure_secret_key(settings)
    assert (tmp_path / "syncd.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadConfiguration, match="new-key"):
        ensure_secret_key(load(environ={"SYNCD_DATABASE__URL": "postgresql://db/x"})[0])
    several, _ = load(environ={"SYNCD_SECRET_KEY": "new,old"})
    assert several.secret_keys == ["new", "old"]


def test_every_key_is_documented_in_the_schema() -> None:
    properties = Settings.model_json_schema()
    assert len(list(keys())) > 45
    assert set(properties["properties"]) == {key.lower().partition("__")[0] for key, _ in keys()}
