"""What a list of ION is shown as: a few columns a resource, read from either dialect. Pure.

A path names keys from the outside in; the first of several that leads somewhere counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syncd.core.policy import Dialect

Paths = tuple[str, ...]
Columns = Mapping[str, tuple[Paths, Paths]]
"""A column's paths in the live and in the seed dialect; ``@n`` is the n-th id in the resource's ``name``."""

COLUMNS: Mapping[str, Columns] = {
    "customers": {
        "id": (("@1",), ("customerId",)),
        "company": (("customerOrganization",), ("companyName",)),
        "email": (("customerEmail",), ("email",)),
        "contact": (("customerName",), ()),
        "country": (("customerAddress.country",), ("country",)),
        "status": (("customerStatus",), ("status",)),
        "changed": (("updateTime",), ()),
    },
    "products": {
        "id": (("id", "@1"), ("productId",)),
        "name": (("marketing.displayName", "displayName"), ("name",)),
        "vendor": (("marketing.vendor", "cloudProviderName"), ("vendor",)),
        "category": (("categories.0.displayName", "categories.0"), ("category",)),
        "sku": (("definition.skus.0.skuId", "definition.skus.0.id"), ("sku",)),
        "price": (("definition.skus.0.plans.0.phases.0.price",), ("price",)),
        "currency": (("definition.skus.0.plans.0.phases.0.currency",), ("currency",)),
    },
    "orders": {
        "id": (("@2",), ("orderId",)),
        "customer": (("@1",), ("customerId",)),
        "reference": (("referenceId",), ()),
        "status": (("status",), ("status",)),
        "total": (("total",), ("totalAmount",)),
        "currency": (("currencyCode",), ("currency",)),
        "created": (("createTime",), ("createdAt",)),
    },
    "subscriptions": {
        "id": (("id",), ("subscriptionId",)),
        "customer": (("customerId",), ()),
        "product": (("subscriptionName",), ("productName",)),
        "vendor": (("cloudProviderName", "cloudProviderId"), ("vendor",)),
        "sku": (("mfgPartNumber", "ccpSkuId"), ()),
        "seats": (("subscriptionTotalLicenses",), ("quantity",)),
        "status": (("subscriptionStatus",), ("status",)),
        "price": (("price",), ()),
        "currency": (("currency",), ()),
        "renews": (("renewalDate",), ("renewalDate",)),
    },
    "verticals": {"id": (("id",), ()), "name": (("displayName", "name"), ())},
    "templates": {"id": (("id",), ()), "vendor": (("vendor",), ())},
    "reports": {
        "id": (("reportId", "id"), ("reportId",)),
        "name": (("displayName", "name"), ("name",)),
        "module": (("module",), ()),
        "generated": ((), ("generatedAt",)),
    },
}


def row_of(resource: str, raw: Mapping[str, Any], dialect: Dialect) -> dict[str, object]:
    """One row by column; ``None`` where this dialect, or this row, does not say."""
    side = 0 if dialect is Dialect.LIVE else 1
    return {
        column: next((found for path in paths[side] if (found := _at(raw, path)) is not None), None)
        for column, paths in COLUMNS[resource].items()
    }


def ids_in(name: object) -> list[str]:
    """The ids in a resource's name: ``accounts/1/customers/2/orders/3`` has 1, 2 and 3."""
    return name.split("/")[1::2] if isinstance(name, str) else []


def _at(raw: Any, path: str) -> Any:
    if path.startswith("@"):
        ids = ids_in(raw.get("name"))
        return ids[int(path[1:])] if int(path[1:]) < len(ids) else None
    for key in path.split("."):
        if isinstance(raw, Mapping):
            raw = raw.get(key)
        elif isinstance(raw, list) and key.isdigit() and int(key) < len(raw):
            raw = raw[int(key)]
        else:
            return None
    return None if isinstance(raw, Mapping | list) else raw
