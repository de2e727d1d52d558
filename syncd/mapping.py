"""The mapping: for each field its place in the CRM, its direction, its policies and converters.

Read from a YAML or TOML file, checked whole at load, and turned into the core's policy. Converters
stand at the CRM's edge: ``read`` turns a CRM value into a canonical one, ``write`` turns it back.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import phonenumbers
import pycountry
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from syncd.core.errors import BadConfiguration
from syncd.core.policy import (
    ION_ACCESS,
    ION_REQUIRES,
    Access,
    Dialect,
    Direction,
    FieldRule,
    FirstLink,
    Policy,
    Tie,
)
from syncd.core.values import NO_VALUES, Address, Field, Value

MAX_LENGTH = 1_000
"""Characters in one value; more is an event set aside."""


class WrongValue(ValueError):
    """A CRM value that can't be what its field holds."""


class Converters(BaseModel):
    """Applied in this order when reading from the CRM; undone in reverse when writing to it."""

    model_config = ConfigDict(extra="forbid")

    trim: bool = True
    case: Literal["keep", "lower", "upper"] = "keep"
    phone: str | bool = False
    """``true``, or the region (``US``) of numbers without a country code: to E.164."""
    country: bool = False
    """A country's name or three-letter code to its two-letter code."""
    language: bool = False
    """A language's name or tag to the upper-case two-letter code that ION uses."""
    values: dict[str, str] = {}
    """CRM value to canonical value."""
    default: str | None = None
    """Stands in for a blank, and for a field that a new customer never had; never for one left out."""

    @cached_property
    def is_plain(self) -> bool:
        """Nothing but spaces is changed."""
        return not (self.values or self.case != "keep" or self.phone or self.country or self.language)


class FieldMapping(BaseModel):
    """One field's row in the mapping file."""

    model_config = ConfigDict(extra="forbid")

    crm: str | None = None
    """Path in the CRM's customer, dots between levels; the field's own name by default."""
    direction: Direction = Direction.BOTH
    tie: Tie | None = None
    first_link: FirstLink | None = None
    convert: Converters = Converters()
    lossy: bool = False
    """Says that what is written back may differ from what was read, so the check lets it pass."""


class MappingFile(BaseModel):
    """The whole file. A field that is not named keeps its built-in row."""

    model_config = ConfigDict(extra="forbid")

    id: str = "id"
    """Name of the id column in Debezium rows."""
    fields: dict[Field, FieldMapping] = {}


BUILT_IN: Mapping[Field, FieldMapping] = {
    **{name: FieldMapping() for name in Field},
    Field.COUNTRY: FieldMapping(convert=Converters(country=True)),
    Field.STATUS: FieldMapping(direction=Direction.ION_TO_CRM, convert=Converters(case="lower")),
}

SAMPLES: Mapping[Field, tuple[str, ...]] = {
    Field.COMPANY: ("Harbour Lights Dental Ltd", "ÅSA & Söner AB", "4711", "x"),
    Field.EMAIL: ("dana.whitfield@harbourlights.example", "a@b.example"),
    Field.COUNTRY: ("US", "DE", "FR", "JP"),
    Field.PHONE: ("+18135550142", "+4930123456", "+33142685300"),
    Field.CONTACT: ("Dana Whitfield", "Zoë O'Brien"),
    Field.TITLE: ("Practice Manager", "CTO"),
    Field.LANGUAGE: ("EN", "DE", "FR"),
    Field.STATUS: ("active", "inactive"),
}


@dataclass(frozen=True, slots=True)
class CrmMapping:
    """Rows of all fields, ready to use."""

    id_column: str
    rows: Mapping[Field, FieldMapping]
    _readers: Sequence[_FieldReader] = field(init=False, repr=False, compare=False)
    _readers_of: Mapping[str, Sequence[_FieldReader]] = field(init=False, repr=False, compare=False)
    """By name in the CRM's customer: who looks at it."""

    def __post_init__(self) -> None:
        readers = [_field_reader(name, row, self.rows[Field.COUNTRY]) for name, row in self.rows.items()]
        names = {name for reader in readers for name in reader.depends_on}
        readers_of = {name: [reader for reader in readers if name in reader.depends_on] for name in names}
        object.__setattr__(self, "_readers", readers)
        object.__setattr__(self, "_readers_of", readers_of)

    @property
    def fingerprint(self) -> str:
        """The same for every file that says the same, whatever its order and comments."""
        rows = {name.value: row.model_dump(mode="json") for name, row in sorted(self.rows.items())}
        return hashlib.sha256(json.dumps([self.id_column, rows], sort_keys=True).encode()).hexdigest()[:16]

    def read(self, customer: Mapping[str, object], known: Mapping[str, Value] = NO_VALUES) -> ReadValues:
        """Canonical values of what the CRM's customer mentions; raises ``WrongValue``.

        ``known``: what was read of this customer before. Most events repeat most of it: that is taken over, and
        whatever else is in it too.
        """
        if isinstance(known, ReadValues) and known.customer.keys() == customer.keys():
            before = known.customer
            changed = [name for name, raw in customer.items() if raw != before[name]]
            readers: Iterable[_FieldReader] = [one for name in changed for one in self._readers_of.get(name, ())]
            values = ReadValues(known)
        else:
            readers, values = self._readers, ReadValues()
        values.customer = customer
        for reader in readers:
            reader.read(customer, values)
        return values

    def write(self, name: Field, value: Value) -> Value:
        """A canonical value in the CRM's own spelling."""
        back = {canonical: own for own, canonical in self.rows[name].convert.values.items()}
        return back.get(value, value) if isinstance(value, str) else value

    def crm_path(self, name: Field) -> str:
        return self.rows[name].crm or name.value

    def policy(self, dialect: Dialect, tie: Tie, first_link: FirstLink, skew_ms: int) -> Policy:
        """The core's table of rules for this dialect."""
        self.check_dialect(dialect)
        access = ION_ACCESS[dialect]
        rules = {
            name: FieldRule(
                name,
                row.direction,
                row.tie or tie,
                row.first_link or first_link,
                access.get(name, Access.NONE),
                KEYS[name],
            )
            for name, row in self.rows.items()
        }
        defaults: dict[Field, Value] = {
            name: row.convert.default for name, row in self.rows.items() if row.convert.default is not None
        }
        return Policy(rules, skew_ms, defaults=defaults, required_by_ion=ION_REQUIRES[dialect])

    def check_dialect(self, dialect: Dialect) -> None:
        for name, row in self.rows.items():
            access = ION_ACCESS[dialect].get(name, Access.NONE)
            if row.direction is Direction.ION_TO_CRM and access is Access.WRITE:
                raise BadConfiguration(
                    f"mapping: fields.{name}.direction is ion-to-crm, but the {dialect} dialect of ION"
                    f" never returns {name}: use crm-to-ion or off"
                )


_MISSING = object()


class ReadValues(dict[str, Value]):
    """Canonical values, and the CRM's customer that they were read of."""

    __slots__ = ("customer",)
    customer: Mapping[str, object]


class _FieldReader(NamedTuple):
    name: str
    parents: tuple[str, ...]
    last: str
    """Of its path."""
    parts: tuple[str, ...]
    """Of an address, what its five parts are called when they are beside its path instead of under it."""
    convert: Callable[[object, str | None], Value]
    country: tuple[str, ...]
    """Where the country is that its reading needs; empty where it needs none."""

    @property
    def depends_on(self) -> set[str]:
        """The names in the customer that its reading looks at."""
        here = self.parents[:1] or (self.last, *self.parts)
        return {*here, *self.country[:1]}

    def read(self, customer: Mapping[str, object], values: dict[str, Value]) -> None:
        """Put it with the values, or take it out of them where the customer does not mention it."""
        name, parents, last, parts, convert, needed = self
        holder = _at(customer, parents) if parents else customer
        raw = holder.get(last, _MISSING) if isinstance(holder, dict) else _MISSING
        if parts and isinstance(holder, dict):
            raw = _address_parts(holder, raw, parts)
        if raw is _MISSING:
            values.pop(name, None)
        else:
            country = _at(customer, needed) if needed else None
            values[name] = convert(raw, country.strip() if isinstance(country, str) else None)


def _field_reader(name: Field, row: FieldMapping, country: FieldMapping) -> _FieldReader:
    (*parents, last), convert = _path(row.crm or name.value), row.convert
    if name is Field.ADDRESS:
        parts = tuple(f"{last}_{part}" for part in Address.__slots__)
        return _FieldReader(name.value, tuple(parents), last, parts, _read_address, ())
    needed = _path(country.crm or Field.COUNTRY.value) if convert.phone is True else ()
    return _FieldReader(name.value, tuple(parents), last, (), partial(read_field, name, convert), needed)


def read_field(name: Field, convert: Converters, raw: object, country: str | None) -> Value:
    """The canonical value; raises ``WrongValue``."""
    if raw is None or raw == "":
        return convert.default
    if not isinstance(raw, str):
        raise WrongValue(f"{name} is {_kind(raw)}, a text was expected")
    text = _checked(name, raw)
    value = _converted(convert, text, country) or convert.default
    if value == raw:
        value = raw  # one text in memory instead of two
    if name is Field.STATUS and value not in ("active", "inactive", None):
        raise WrongValue(f"status is {value!r}, active or inactive was expected")
    return value


def load_mapping(path: Path | None) -> CrmMapping:
    """The built-in mapping, or the file's rows over it. Raises ``BadConfiguration``, a line a problem."""
    if path is None:
        return CrmMapping("id", BUILT_IN)
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
        parsed = MappingFile.model_validate(raw or {})
    except OSError as error:
        raise BadConfiguration(f"mapping: cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise BadConfiguration(f"mapping: {path} is nested too deeply") from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"mapping: {path} is not readable: {error}") from None
    except ValidationError as error:
        lines = [f"mapping: {_place(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        raise BadConfiguration("\n".join(lines)) from None
    mapping = CrmMapping(parsed.id, {**BUILT_IN, **parsed.fields})
    problems = [problem for name, row in mapping.rows.items() for problem in _round_trip_problems(name, row)]
    if problems:
        raise BadConfiguration("\n".join(problems))
    return mapping


def _round_trip_problems(name: Field, row: FieldMapping) -> list[str]:
    """What is written to the CRM must come back as the same canonical value."""
    if row.lossy or name is Field.ADDRESS:
        return []
    mapping = CrmMapping("id", {**BUILT_IN, name: row})
    back = list(row.convert.values.values())
    problems = []
    if len(set(back)) != len(back):
        problems.append(f"mapping: fields.{name}.convert.values: two CRM values stand for the same value")
    for sample in (*SAMPLES[name], *back):
        again = read_field(name, row.convert, mapping.write(name, sample), "US")
        if again != sample and KEYS[name](again, "US") != KEYS[name](sample, "US"):
            problems.append(
                f"mapping: fields.{name}.convert: {sample!r} written to the CRM would be read back as {again!r};"
                " mend the converters, or say lossy: true"
            )
            break
    return problems


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _converted(convert: Converters, text: str, country: str | None) -> str:
    if convert.trim:
        text = " ".join(text.split())
    if convert.is_plain:
        return text
    text = convert.values.get(text, text)
    if convert.case != "keep":
        text = text.lower() if convert.case == "lower" else text.upper()
    if convert.phone:
        text = e164(text, convert.phone if isinstance(convert.phone, str) else country)
    if convert.country:
        text = country_code(text)
    return language_code(text) if convert.language else text


def _path(text: str) -> tuple[str, ...]:
    return tuple(text.split("."))


def _at(customer: Mapping[str, object], path: Sequence[str]) -> object:
    node: object = customer
    for step in path:
        node = node.get(step) if isinstance(node, dict) else None
    return node


def _address_parts(holder: dict[str, object], raw: object, flat: tuple[str, ...]) -> object:
    """Its five parts, nested under its path or flat: ``address_street`` and so on. Anything else is left as it is."""
    if isinstance(raw, dict):
        found = [raw.get(part) for part in Address.__slots__]
    elif raw is not _MISSING or holder.keys().isdisjoint(flat):
        return raw
    else:
        found = [holder.get(part) for part in flat]
    return tuple(["" if part is None else part for part in found])


def _read_address(raw: object, _: str | None) -> Address | None:
    if raw is None or raw == "":
        return None
    if not isinstance(raw, tuple):
        raise WrongValue(f"address is {_kind(raw)}, an object of street, suite, city, state and zip was expected")
    address = Address(*map(_part, Address.__slots__, raw))
    return None if address.is_blank else address


def _part(part: str, raw: object) -> str:
    if not isinstance(raw, str):
        raise WrongValue(f"address.{part} is {_kind(raw)}, a text was expected")
    return " ".join(_checked(f"address.{part}", raw).split())


def _checked(name: str, text: str) -> str:
    if len(text) > MAX_LENGTH:
        raise WrongValue(f"{name} has {len(text)} characters, {MAX_LENGTH} are allowed")
    if "\x00" in text:
        raise WrongValue(f"{name} has a zero byte in it")
    return text


def _kind(raw: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(raw), "of a wrong type")


# -- what is equal to what


@lru_cache(maxsize=50_000)
def e164(text: str, region: str | None) -> str:
    """The number in E.164 where it is one, else as it was."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return text
    if not phonenumbers.is_possible_number(number):
        return text
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@lru_cache(maxsize=2_000)
def country_code(text: str) -> str:
    """The two-letter code of a country's name or code; what is none stays as it was."""
    if len(text) == 2:
        return text.upper()
    try:
        country = pycountry.countries.lookup(text)
    except LookupError:
        return text
    return str(country.alpha_2)


@lru_cache(maxsize=2_000)
def language_code(text: str) -> str:
    if len(text) == 2:
        return text.upper()
    try:
        language = pycountry.languages.lookup(text)
    except LookupError:
        return text
    return str(getattr(language, "alpha_2", text)).upper()


def _folded(value: Value, country: str | None) -> object:
    return value.strip().casefold() if isinstance(value, str) else value


def _spaced(value: Value, country: str | None) -> object:
    return " ".join(unicodedata.normalize("NFC", value).split()) if isinstance(value, str) else value


def _phone(value: Value, country: str | None) -> object:
    if not isinstance(value, str):
        return value
    number = e164(value, country)
    return number if number.startswith("+") else "".join(filter(str.isalnum, number))


def _address(value: Value, country: str | None) -> object:
    if not isinstance(value, Address):
        return value
    return tuple(" ".join(unicodedata.normalize("NFC", getattr(value, p)).split()) for p in Address.__slots__)


KEYS: Mapping[Field, Callable[[Value, str | None], object]] = {
    Field.COMPANY: _spaced,
    Field.EMAIL: _folded,
    Field.COUNTRY: _folded,
    Field.PHONE: _phone,
    Field.ADDRESS: _address,
    Field.CONTACT: _spaced,
    Field.TITLE: _spaced,
    Field.LANGUAGE: _folded,
    Field.STATUS: _folded,
}
"""Equal keys, equal values: what differs only in these ways is no difference."""
