"""Writes the files that are made from others: ``schemas/``, three pages of ``docs/``, the chart's, the dashboards.

``--check`` writes nothing and fails where one of them is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from syncd import __version__
from syncd.admin import openapi
from syncd.core.intent import LIFE, IntentState
from syncd.crm.schemas import all_schemas, asyncapi
from syncd.ion.operations import OPERATIONS, Call
from syncd.settings import PREFIX, Settings, keys
from tools import chart, dashboards

ROOT = Path(__file__).parent.parent
CHART = ROOT / "deploy" / "helm" / "syncd"
HEAD = """\
# Configuration

Made from `syncd/settings.py` by `python -m tools.generate`; `syncd config schema` prints the same as JSON Schema.

Environment variables go over the file that `--config` or `SYNCD_CONFIG` names (TOML: `[ion]`, then
`account_id = "20481"`), and that goes over the defaults. Secrets may come from files: `…_FILE`
(`SYNCD_ION__REFRESH_TOKEN_FILE=/run/secrets/ion`), or a directory named by `SYNCD_SECRETS_DIR` whose
files are named like the keys. An unknown key, a wrong type or a missing required value stops the start
with exit code 2 and one line a problem. `syncd config show` prints what is in force and where it came from.

| variable | default | meaning |
| --- | --- | --- |
"""


def configuration() -> str:
    return HEAD + "".join(_row(key, field) for key, field in keys())


def _row(key: str, field: Any) -> str:
    default = getattr(field.default, "value", field.default)
    shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    example = f" Example: `{field.examples[0]}`." if field.examples else ""
    choices = _choices(field)
    meaning = ". ".join(part for part in (field.description or "", choices) if part)
    return f"| `{PREFIX}{key}` | {shown} | {meaning}{'.' if meaning else ''}{example} |\n"


def _choices(field: Any) -> str:
    text = str(field.annotation)
    if "Literal[" in text and "int" in text:
        return "`auto`, or a number"
    if "Literal[" in text:
        inside = text.split("Literal[", 1)[1].split("]", 1)[0]
        return "One of " + ", ".join(f"`{part.strip(' ' + chr(39))}`" for part in inside.split(","))
    if isinstance(field.annotation, type) and hasattr(field.annotation, "__members__"):
        return "One of " + ", ".join(f"`{member.value}`" for member in field.annotation)
    return ""


LIFE_HEAD = """\
# The life of an intent

Made from `LIFE` in `syncd/core/intent.py` by `python -m tools.generate`. An intent is a change written down
before its call; no other step than these can be taken. `syncd status` and `syncd_unknown_outcomes` count those
that are *unknown*; a write to ION leaves that state only by a look at ION, never by being sent again.

```mermaid
stateDiagram-v2
"""


def life_of_an_intent() -> str:
    begins = f"    [*] --> {IntentState.PREPARED.value}\n"
    steps = "".join(f"    {before.value} --> {after.value}: {why}\n" for (before, after), why in LIFE.items())
    ends = [state for state in IntentState if not any(before is state for before, _ in LIFE)]
    return LIFE_HEAD + begins + steps + "".join(f"    {state.value} --> [*]\n" for state in ends) + "```\n"


ION_HEAD = """\
# The rest of ION by hand

Made from `OPERATIONS` in `syncd/ion/operations.py` by `python -m tools.generate`.

`syncd ion …` reaches what ION offers beside customer sync. It needs the database (budget and tokens live there)
and no Kafka. Lists print a table, `--csv` or `--json` (ION's own rows); they end after 100 rows unless
`--limit` or `--all` says otherwise. Bodies are ION's own, in its dialect: `--data '{…}'`, `--data @file`, or
`--data -` for standard input, which keeps them out of the shell's history and of the list of processes.

* **Budget.** Every call is made in the operator's lane: a tenth of the calls a minute, and whatever nobody else
  waits for. While customers wait
  to be synced, nothing here takes more than its tenth.
* **Nothing is sent twice.** If the answer to a write is lost, the command says so and ends with 1: look, then
  decide.
* **What can't be right is not sent**: a quantity that is no whole number above zero, an item without its
  product, an id that is none. What ION refuses is told in its words.
* **Secrets stay hidden.** Passwords of new portal users and of tenants' administrators (attributes of order
  items) are replaced by `(hidden)` before anything prints or logs them.
* **`syncd pause` stops these writes too** (exit code 3). Each write is in the log of decisions with who made
  it, and is counted by no limit of the guard.
* **`customers update` sends the whole record**, as ION replaces it: your changes over what ION holds now. In
  the seed dialect ION never shows phone and address; syncd adds what it agreed on with the CRM, or asks you to
  say them.
* Where no source names a path (verticals, provisioning templates) the likeliest is used. `syncd ion request GET
  accounts/20481/…` reaches any other, with the same credentials, budget and care.

## What each dialect can do

Paths lie below `/api/v3`; `narrowed by` are the options of the list's command.

| command `syncd ion` | does | live dialect | seed dialect |
| --- | --- | --- | --- |
"""

ION_TAIL = """\

## The catalogue

`syncd ion products import` lists the whole catalogue, keeps it in the database, and tells of every product that
is new or changed on `syncd.products` (compacted, key `synnex/PRODUCT`; [schema](../schemas/product.json)).
After the first time only changes are told; it says how many calls it took. Prices are decimal numbers as text,
so that none is rounded; `syncd ion products prices PRODUCT` shows how they moved. A product that is listed no
more stays as it was: a listing proves no absence. A product that
can't be read, such as one with a price that is no number, is named with the field and left as it was.
The daemon sends what the import has left to be told; a topic that is missing
holds up no other.

```sh
syncd ion products import            # 20005 products listed in 21 calls: 0 new, 2 changed, 1 prices moved.
```
"""


def rest_of_ion() -> str:
    rows = [
        f"| `{name}` | {operation.does} | {_asked(operation.live)} | {_asked(operation.seed)} |\n"
        for name, operation in OPERATIONS.items()
    ]
    return ION_HEAD + "".join(rows) + ION_TAIL


def _asked(call: Call | str) -> str:
    if isinstance(call, str):
        return f"{call}".replace("|", "\\|")
    narrowed = ", ".join(f"`--{name}`" for name in sorted({*call.query, *call.sift}))
    within = f", or `{call.within}` with `--customer`" if call.within else ""
    return f"`{call.method} {call.path}`{within}" + (f", narrowed by {narrowed}" if narrowed else "")


CHART_HEAD = """\
# The chart of syncd

    helm install syncd deploy/helm/syncd --namespace syncd --values my.yaml

What to put into `my.yaml`, from nothing to a synced pair: [docs/kubernetes.md](../../../docs/kubernetes.md). The
table is made from `values.yaml` by `python -m tools.generate`, and so is `values.schema.json`, by which Helm refuses
what is not listed here.
"""


def files() -> dict[Path, str]:
    made = {ROOT / "schemas" / f"{name}.json": _json(schema) for name, schema in all_schemas().items()}
    made[ROOT / "schemas" / "asyncapi.json"] = _json(asyncapi(__version__))
    made[ROOT / "schemas" / "openapi.json"] = _json(openapi.document(__version__))
    made[ROOT / "schemas" / "configuration.json"] = _json(Settings.model_json_schema())
    made[ROOT / "docs" / "configuration.md"] = configuration()
    made[ROOT / "docs" / "life-of-an-intent.md"] = life_of_an_intent()
    made[ROOT / "docs" / "ion.md"] = rest_of_ion()
    values = (CHART / "values.yaml").read_text("utf-8")
    made[CHART / "values.schema.json"] = _json(chart.schema(yaml.safe_load(values)))
    for name, board in dashboards.boards().items():
        made[ROOT / "deploy" / "observability" / "dashboards" / name] = board
    made[CHART / "README.md"] = chart.readme(values, CHART_HEAD)
    return made


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    stale = [path for path, text in files().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"stale: {path.relative_to(ROOT)} (run `python -m tools.generate`)")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files()[path], "utf-8")
        print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
