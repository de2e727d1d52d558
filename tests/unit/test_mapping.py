"""Contract 4: the mapping file, checked whole at load."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.errors import BadConfiguration
from syncd.core.policy import Access, Dialect, Direction, FirstLink, Tie
from syncd.core.values import Address, Field
from syncd.mapping import KEYS, load_mapping


def mapping(tmp_path: Path, text: str, name: str = "mapping.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return load_mapping(path)


def problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(BadConfiguration) as caught:
        mapping(tmp_path, text)
    return caught.value.sentence


def test_the_built_in_mapping_needs_no_file() -> None:
    built_in = load_mapping(None)
    policy = built_in.policy(Dialect.SEED, Tie.CRM, FirstLink.CRM, 2_000)
    assert policy.rules[Field.PHONE].ion is Access.WRITE
    assert policy.rules[Field.TITLE].ion is Access.NONE
    assert policy.rules[Field.STATUS].direction is Direction.ION_TO_CRM


def test_paths_directions_and_policies(tmp_path: Path) -> None:
    found = mapping(
        tmp_path,
        """
        id: number
        fields:
          company: {crm: org.name, direction: crm-to-ion, tie: ion, first_link: newest}
          address: {crm: site}
        """,
    )
    values = found.read({"org": {"name": "  Acme  Ltd "}, "site_city": "Tampa"})
    assert values == {Field.COMPANY: "Acme Ltd", Field.ADDRESS: Address(city="Tampa")}
    rule = found.policy(Dialect.LIVE, Tie.CRM, FirstLink.CRM, 2_000).rules[Field.COMPANY]
    assert (rule.direction, rule.tie, rule.first_link) == (Direction.CRM_TO_ION, Tie.ION, FirstLink.NEWEST)
    assert (found.id_column, found.crm_path(Field.COMPANY)) == ("number", "org.name")


def test_an_address_is_under_its_path_or_beside_it(tmp_path: Path) -> None:
    found = mapping(tmp_path, "fields: {address: {crm: billing.place}, title: {crm: work.title}}")
    home = Address(street="1 Main Street", zip="33602")
    flat = {"billing": {"place_street": "1 Main  Street", "place_zip": "33602"}, "work": {"title": "CEO"}}
    assert found.read(flat) == {"address": home, "title": "CEO"}
    assert found.read({"billing": {"place": {"street": "1 Main Street", "zip": "33602"}}}) == {"address": home}
    assert found.read({"billing": {"place": None, "place_street": "2"}, "work": "none"}) == {"address": None}
    assert found.read({"billing": {}, "work": {}}) == found.read({"place_street": "2"}) == {}


def test_toml_is_as_good(tmp_path: Path) -> None:
    found = mapping(
        tmp_path, '[fields.status.convert]\nvalues = {live = "active", dead = "inactive"}\n', "mapping.toml"
    )
    assert found.read({"status": "live"}) == {Field.STATUS: "active"}
    assert found.write(Field.STATUS, "inactive") == "dead"


def test_converters(tmp_path: Path) -> None:
    found = mapping(
        tmp_path,
        """
        fields:
          email: {convert: {case: lower}, lossy: true}
          phone: {convert: {phone: US}}
          language: {convert: {language: true, default: EN}}
          country: {convert: {country: true}}
        """,
    )
    read = found.read({"email": "A@B.example", "phone": "(813) 555-0142", "country": "Germany"})
    assert read[Field.EMAIL] == "a@b.example"
    assert read[Field.PHONE] == "+18135550142"
    assert read[Field.COUNTRY] == "DE"
    assert Field.LANGUAGE not in read, "left out is unchanged, not blank"
    assert found.policy(Dialect.LIVE, Tie.CRM, FirstLink.CRM, 0).defaults == {Field.LANGUAGE: "EN"}
    assert found.read({"language": "German"})[Field.LANGUAGE] == "DE"
    assert found.read({"language": ""})[Field.LANGUAGE] == "EN"


BAD = [
    pytest.param("fields: {compny: {}}", "compny", id="an unknown field"),
    pytest.param("fields: {company: {direktion: both}}", "direktion", id="an unknown option"),
    pytest.param("fields: {company: {direction: sideways}}", "fields.company.direction", id="an unknown direction"),
    pytest.param("fields: {company: {convert: {case: upper}}}", "lossy", id="a converter that fails its round trip"),
    pytest.param(
        "fields: {status: {convert: {values: {live: active, running: active, dead: inactive}}}}",
        "two CRM values",
        id="a value table that is not one to one",
    ),
    pytest.param("fields: [", "not readable", id="no YAML"),
    pytest.param("7", "mapping", id="a number"),
]


@pytest.mark.parametrize(("text", "names"), BAD)
def test_a_bad_file_is_refused_and_named(tmp_path: Path, text: str, names: str) -> None:
    assert names in problem(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="cannot read"):
        load_mapping(tmp_path / "nowhere.yaml")


def test_a_field_that_ion_never_shows_cannot_flow_from_it(tmp_path: Path) -> None:
    found = mapping(tmp_path, "fields: {phone: {direction: ion-to-crm}}")
    found.policy(Dialect.LIVE, Tie.CRM, FirstLink.CRM, 0)
    with pytest.raises(BadConfiguration, match="never returns phone"):
        found.policy(Dialect.SEED, Tie.CRM, FirstLink.CRM, 0)


SAME = [
    (Field.EMAIL, "Dana@X.example", "dana@x.example", True),
    (Field.PHONE, "8135550142", "+1 813 555 0142", True),
    (Field.PHONE, "8135550142", "8135550143", False),
    (Field.PHONE, "12", "1-2", True),
    (Field.COMPANY, "Acme  Ltd", "Acme Ltd", True),
    (Field.COMPANY, "ACME Ltd", "Acme Ltd", False),
    (Field.COUNTRY, "us", "US", True),
    (Field.ADDRESS, Address("1  Main"), Address("1 Main"), True),
    (Field.ADDRESS, Address("1 Main"), None, False),
    (Field.COMPANY, None, None, True),
    (Field.PHONE, None, "1", False),
]


@pytest.mark.parametrize(("name", "mine", "theirs", "same"), SAME)
def test_what_is_equal(name: Field, mine: object, theirs: object, same: bool) -> None:
    assert (KEYS[name](mine, "US") == KEYS[name](theirs, "US")) is same  # type: ignore[arg-type]
