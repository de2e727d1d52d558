"""How alike are two customers that no exact key tells to be one? (S8, the last tier)

Rules
1. Of each record *traits* are taken: the name without accents, punctuation and legal form; the domain
   of its own e-mail; the digits of its phone; where it is.
2. Each piece of *evidence* counts for or against; the score is their sum, between 0 and 1.
3. From ``DEFINITE`` on, and ahead of all others by ``MARGIN``, two are one. From ``NEAR`` on a person decides.
4. Nobody is compared with everybody: only who shares a *block*. A block is made so that two
   spellings of one customer nearly always share one, and strangers seldom do.

Next in the flow: ``match``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from anyascii import anyascii
from cleanco.clean import basename, custom_basename, normalized, strip_punct, strip_tail
from rapidfuzz import fuzz

from syncd.core.record import Record
from syncd.core.values import Address, Field, Value

DEFINITE, NEAR, MARGIN = 0.9, 0.5, 0.1


class Evidence(StrEnum):
    """What speaks for or against, as a person reads it."""

    SAME_NAME = "same name"
    CLOSE_NAME = "nearly the same name"
    LIKE_NAME = "similar name"
    OTHER_NAME = "different name"
    SAME_EMAIL = "same e-mail"
    SAME_DOMAIN = "same e-mail domain"
    OTHER_DOMAIN = "other e-mail domain"
    SAME_PHONE = "same phone"
    OTHER_PHONE = "other phone"
    SAME_STREET = "same street"
    OTHER_STREET = "same place, other street"
    SAME_PLACE = "same place"
    OTHER_PLACE = "another place"
    OTHER_COUNTRY = "another country"
    SAME_CONTACT = "same contact"


WEIGHTS: Mapping[Evidence, float] = {
    Evidence.SAME_NAME: 0.55,
    Evidence.CLOSE_NAME: 0.45,
    Evidence.LIKE_NAME: 0.25,
    Evidence.OTHER_NAME: -0.3,
    Evidence.SAME_EMAIL: 0.5,
    Evidence.SAME_DOMAIN: 0.25,
    Evidence.OTHER_DOMAIN: -0.1,
    Evidence.SAME_PHONE: 0.25,
    Evidence.OTHER_PHONE: -0.05,
    Evidence.SAME_STREET: 0.2,
    Evidence.OTHER_STREET: 0.0,
    Evidence.SAME_PLACE: 0.1,
    Evidence.OTHER_PLACE: -0.25,
    Evidence.OTHER_COUNTRY: -0.4,
    Evidence.SAME_CONTACT: 0.05,
}
DOUBTS = frozenset({Evidence.OTHER_DOMAIN, Evidence.OTHER_PHONE, Evidence.OTHER_STREET, Evidence.OTHER_PLACE})
"""What speaks against two customers of one name and country."""
CLOSE, LIKE, UNLIKE = 90.0, 75.0, 50.0
"""Likeness of two names, of 100."""
SAME_STREET = 85.0

CROWDED, NEAREST = 50, 20
"""Members of a block that still tells something, and how many are compared in the end."""
MAIL_PROVIDERS = frozenset(
    re.split(
        r"\s+",
        """gmail.com googlemail.com outlook.com hotmail.com live.com msn.com yahoo.com yahoo.co.uk yahoo.de
        yahoo.fr ymail.com icloud.com me.com mac.com aol.com gmx.com gmx.net gmx.de web.de t-online.de
        freenet.de mail.com proton.me protonmail.com zoho.com yandex.com yandex.ru mail.ru qq.com 163.com
        126.com naver.com orange.fr free.fr wanadoo.fr laposte.net libero.it virgilio.it comcast.net
        verizon.net att.net btinternet.com bigpond.com rogers.com shaw.ca uol.com.br terra.com.br""",
    )
)
"""An address there says nothing about the company."""
COMMON_WORDS = frozenset(
    re.split(
        r"\s+",
        """and of for group holding holdings international global services service solutions solution systems
        consulting consultants technology technologies tech company enterprises partners associates industries
        management software digital media design trading medical health care center centre north south east
        west american national united first new""",
    )
)
"""Words in so many names that they bring strangers together."""
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
_VOWELS = re.compile(r"[aeiouy]")
_REPEATED = re.compile(r"(.)\1+")


class Traits(NamedTuple):
    """What two customers are compared by; blank where nothing is known."""

    name: str
    email: str
    domain: str
    phone: str
    address: Address
    country: str
    contact: str


def trait_values(record: Record) -> tuple[Value, ...]:
    """The values that traits are taken from: while they are the same, so are the blocks."""
    return tuple(record.value(name) for name in (Field.COMPANY, Field.EMAIL, Field.PHONE, Field.ADDRESS))


def nearest_of(members: Iterable[Sequence[str]]) -> list[str]:
    """Customers by how many blocks they share with one, the most first; blocks of too many tell nothing."""
    counts = Counter(customer_id for block in members if len(block) <= CROWDED for customer_id in block)
    return [customer_id for customer_id, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:NEAREST]


def traits_of(record: Record) -> Traits:
    email = _plain(record.value(Field.EMAIL)).replace(" ", "")
    domain = email.rpartition("@")[2]
    address = record.value(Field.ADDRESS)
    return Traits(
        bare_name(_text(record.value(Field.COMPANY))),
        email,
        "" if domain in MAIL_PROVIDERS else domain,
        re.sub(r"\D", "", _text(record.value(Field.PHONE)))[-9:],
        Address(*(_plain(part) for part in _parts(address))) if isinstance(address, Address) else Address(),
        _plain(record.value(Field.COUNTRY)),
        _plain(record.value(Field.CONTACT)),
    )


LEGAL_FORMS: Sequence[tuple[int, list[str]]] = basename.keywords["terms"]
"""As the library has prepared them when it was imported."""


def _by_word() -> Mapping[str, Sequence[int]]:
    """Places in the list of legal forms, by the words that a form begins or ends with."""
    found: dict[str, list[int]] = {}
    for place, (_, words) in enumerate(LEGAL_FORMS):
        for word in {words[0], words[-1]}:
            found.setdefault(word, []).append(place)
    return found


_LEGAL_FORMS_BY_WORD = _by_word()


def _legal_forms_in(company: str) -> list[tuple[int, list[str]]]:
    """Those that the name may have: to try all two thousand takes as long as all else together."""
    plain = strip_tail(company)
    words = {strip_punct(word) for word in (plain.casefold() if plain.isascii() else normalized(plain)).split()}
    places = {place for word in words for place in _LEGAL_FORMS_BY_WORD.get(word, ())}
    return [LEGAL_FORMS[place] for place in sorted(places)]


@lru_cache(maxsize=50_000)
def bare_name(company: str) -> str:
    """Words in lower case ASCII, without legal forms: ``Müller & Söhne GmbH`` is ``muller and sohne``."""
    bare = custom_basename(company, _legal_forms_in(company), prefix=True) or company
    ascii_name = anyascii(bare).casefold().replace("&", " and ").replace("+", " and ").replace("'", "")
    words = _NOT_ALPHANUMERIC.sub(" ", ascii_name.replace(".", "")).split()
    return " ".join(word for word in words if word != "the") or " ".join(words)


def evidence(mine: Traits, theirs: Traits) -> tuple[Evidence, ...]:
    """All that speaks for and against; the order does not depend on who is asked first."""
    found = [_names(mine.name, theirs.name), _mail(mine, theirs), _places(mine, theirs)]
    if mine.phone and theirs.phone:
        found.append(Evidence.SAME_PHONE if mine.phone == theirs.phone else Evidence.OTHER_PHONE)
    if mine.country and theirs.country and mine.country != theirs.country:
        found.append(Evidence.OTHER_COUNTRY)
    if mine.contact and mine.contact == theirs.contact:
        found.append(Evidence.SAME_CONTACT)
    return tuple(sorted((what for what in found if what is not None), key=lambda what: -WEIGHTS[what]))


def score_of(found: Iterable[Evidence]) -> float:
    return round(min(1.0, max(0.0, sum(WEIGHTS[what] for what in found))), 3)


def blocks_of(record: Record) -> tuple[str, ...]:
    """Where to look for customers like this one."""
    traits = traits_of(record)
    squeezed = traits.name.replace(" ", "")
    blocks = {f"word {word}" for word in traits.name.split() if len(word) > 3 and word not in COMMON_WORDS}
    if squeezed:
        bones = squeezed[0] + _REPEATED.sub(r"\1", _VOWELS.sub("", squeezed[1:]))
        blocks |= {f"bones {bones[:6]}", f"start {squeezed[:5]}"}
    if traits.domain:
        blocks.add(f"domain {traits.domain}")
    if len(traits.phone) > 6:
        blocks.add(f"phone {traits.phone}")
    if traits.address.zip and traits.address.street:
        blocks.add(f"street {traits.address.zip} {traits.address.street[:8]}")
    return tuple(sorted(blocks))


def _names(mine: str, theirs: str) -> Evidence | None:
    if not mine or not theirs:
        return None
    if mine == theirs:
        return Evidence.SAME_NAME
    if _numbers(mine) != _numbers(theirs) and _numbers(mine) and _numbers(theirs):
        return Evidence.OTHER_NAME  # branch 12 is not branch 13
    likeness = max(fuzz.token_sort_ratio(mine, theirs), fuzz.ratio(mine.replace(" ", ""), theirs.replace(" ", "")))
    if likeness >= CLOSE:
        return Evidence.CLOSE_NAME
    if likeness >= LIKE or _is_part(mine, theirs):
        return Evidence.LIKE_NAME
    return Evidence.OTHER_NAME if likeness < UNLIKE else None


def _numbers(name: str) -> list[str]:
    return sorted(re.findall(r"\d+", name))


def _is_part(mine: str, theirs: str) -> bool:
    """All the words of one are in the other, and one of them at least tells something."""
    fewer, more = sorted((set(mine.split()), set(theirs.split())), key=len)
    return fewer <= more and any(len(word) > 3 and word not in COMMON_WORDS for word in fewer)


def _mail(mine: Traits, theirs: Traits) -> Evidence | None:
    if mine.email and mine.email == theirs.email:
        return Evidence.SAME_EMAIL
    if mine.domain and theirs.domain:
        return Evidence.SAME_DOMAIN if mine.domain == theirs.domain else Evidence.OTHER_DOMAIN
    return None


def _places(mine: Traits, theirs: Traits) -> Evidence | None:
    here, there = mine.address, theirs.address
    same_zip = bool(here.zip) and here.zip == there.zip
    same_city = bool(here.city) and here.city == there.city
    if same_zip or same_city:
        if not here.street or not there.street:
            return Evidence.SAME_PLACE
        return Evidence.SAME_STREET if _same_street(here.street, there.street) else Evidence.OTHER_STREET
    return Evidence.OTHER_PLACE if here.city and there.city and here.zip and there.zip else None


def _same_street(mine: str, theirs: str) -> bool:
    """The same house number, and names of which one may be cut short."""
    return _numbers(mine) == _numbers(theirs) and fuzz.partial_ratio(mine, theirs.rstrip(".")) >= SAME_STREET


def _parts(address: Address) -> tuple[str, ...]:
    return address.street, address.suite, address.city, address.state, address.zip


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""


def _plain(value: Value) -> str:
    return " ".join(anyascii(_text(value)).casefold().split())
