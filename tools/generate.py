"""Writes the files that are made from others: ``schemas/``, two pages of ``docs/``, the chart's, the dashboards.

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
