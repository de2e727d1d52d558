"""Made-up customers, the same for the same seed."""

from __future__ import annotations

from random import Random
from typing import Any

FIRST = ("Harbour", "Quarry", "Meadow", "Lantern", "Copper", "Willow", "Granite", "Juniper", "Falcon", "Orchid")
SECOND = ("Lights", "Bridge", "Works", "Field", "Point", "Gate", "Hill", "Yard", "Stone", "River")
TRADE = ("Dental", "Logistics", "Bakery", "Legal", "Optics", "Motors", "Clinic", "Design", "Foods", "Schools")
FORM = ("Ltd", "Inc", "GmbH", "LLC", "BV")
PEOPLE = ("Dana Whitfield", "Noor Haddad", "Liam Byrne", "Ines Marques", "Yuki Tanaka", "Eva Lindqvist")
TITLES = ("Practice Manager", "Head of IT", "Owner", "Controller", "")
CITIES = (
    ("Tampa", "FL", "33602", "US", "813"),
    ("Austin", "TX", "78701", "US", "512"),
    ("Denver", "CO", "80202", "US", "303"),
    ("Seattle", "WA", "98101", "US", "206"),
)


def make_customer(rng: Random, number: int) -> dict[str, Any]:
    """Canonical names; ``number`` makes company and e-mail unique."""
    company = f"{rng.choice(FIRST)} {rng.choice(SECOND)} {rng.choice(TRADE)} {number} {rng.choice(FORM)}"
    person = rng.choice(PEOPLE)
    city, state, zip_code, country, area = rng.choice(CITIES)
    domain = company.lower().replace(" ", "")
    return {
        "company": company,
        "email": f"{person.lower().replace(' ', '.')}@{domain}.example",
        "country": country,
        "phone": f"+1{area}555{rng.randrange(100, 200):04d}",
        "address": {
            "street": f"{rng.randrange(1, 400)} {rng.choice(FIRST)} Road",
            "suite": rng.choice(("", "Unit 4", "Floor 2")),
            "city": city,
            "state": state,
            "zip": zip_code,
        },
        "contact": person,
        "title": rng.choice(TITLES) or None,
        "language": "EN",
        "status": "active",
    }
