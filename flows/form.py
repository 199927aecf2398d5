"""The form of Prefect's UI: what a person may fill in for a run, as JSON Schema.

Every parameter may be left as it is, and then is the scenario's own, or its default while nothing is decided. The form
shows it folded. A group opens with empty fields, of which only those filled in are sent. What draws a field and what
limits it stand apart: `anyOf` draws it and lets all values through, `then` limits them, so that a wrong one is answered
beside its field by the rule that it broke.
"""

from copy import deepcopy
from dataclasses import fields
from datetime import date
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from flows.parameters import MONTH, Parameters, Values
from tasks.fetch.rates import UNITS
from tasks.numerics.configs import Config

Schema = dict[str, Any]
AS_IT_IS: Schema = {"title": "As it is", "type": "null"}
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "pattern": "",
}
_SPELT = {"kl": "KL", "lr": "LR", "ogd": "OGD", "cvar": "CVaR", "ewma": "EWMA", "l1": "L1", "hrp": "HRP"}


def titled(name: str) -> str:
    """A parameter's name as a heading."""
    words = [_SPELT.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


@cache  # half a second, and every flow has it
def schema() -> Schema:
    """All parameters as one object, each of them folded."""
    found = Parameters.model_json_schema()["properties"]
    drawn = {name: _folded(name, found[name], entry) for name, entry in Parameters.model_fields.items()}
    return {"type": "object", "properties": drawn, "additionalProperties": False}


def _folded(name: str, entry: Schema, field: FieldInfo) -> Schema:
    """A parameter, or a group of them, that is left as it is unless it is opened."""
    default = field.default
    options, limits = _group(default) if isinstance(default, Config) else _single(entry, default)
    return {
        "title": titled(name),
        "description": f"{field.description}{_default_in_words(default)}",
        "anyOf": [*options, AS_IT_IS],
        "default": None,
        "if": {"not": {"type": "null"}},
        "then": limits,
    }


def _default_in_words(default: Any) -> str:
    if isinstance(default, Config) or default in ("", (), {}):
        return ""
    return f" Default: {', '.join(default) if isinstance(default, tuple) else default}."


def _single(entry: Schema, default: Any) -> tuple[list[Schema], Schema]:
    """What draws one value, and what limits it. Where there are examples, another value may be typed."""
    kept = {name: value for name, value in entry.items() if name in ("type", "enum", "items", "additionalProperties")}
    drawn = kept | {"title": "Change", **({} if default == "" else {"default": _plain(default)})}
    if "examples" in entry:
        known = drawn | {"title": "Choose", "enum": entry["examples"]}
        return [known, {"title": "Type", "type": "string"}], kept
    return [drawn], kept | {name: entry[name] for name in _LIMITS if name in entry}


def _plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def _group(config: Config) -> tuple[list[Schema], Schema]:
    """What draws the values of a config, each empty until it is filled in, and what limits them."""
    entries = TypeAdapter(type(config)).json_schema()["properties"]
    drawn = {
        entry.name: _drawn(entry.name, entries[entry.name], getattr(config, entry.name)) for entry in fields(config)
    }
    limits = {
        name: {kind: value for kind, value in entry.items() if kind in (*_LIMITS, "type", "enum")}
        for name, entry in entries.items()
    }
    opened = {"title": "Change", "type": "object", "properties": drawn}
    return [opened], {"type": "object", "properties": limits, "additionalProperties": False}


def _drawn(name: str, entry: Schema, default: Any) -> Schema:
    """A field of a config without limits and default, which its description says in words.

    A default would be sent, whatever the scenario has. Yes and no are a choice, since a switch is never empty.
    """
    said = ", ".join(words.format(entry[limit]) for limit, words in _LIMITS.items() if limit in entry)
    kept = {kind: value for kind, value in entry.items() if kind not in (*_LIMITS, "default")}
    choice = {"enum": [True, False]} if entry.get("type") == "boolean" else {}
    described = entry["description"] + (f" {said[0].upper()}{said[1:]}." if said else "") + _default_in_words(default)
    return kept | choice | {"title": titled(name), "description": described}


class _Form:
    """Draws what it annotates as all parameters."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        """The schema of the form, whatever else is taken."""
        return deepcopy(schema())  # pydantic goes on with it


def said(title: str, description: str, **more: Any) -> Any:
    """A heading and help for a flow's own argument; Prefect would take the argument's name."""
    return Field(json_schema_extra={"title": title, "description": description, **more})


def _text(title: str, **limits: Any) -> Any:
    """Text that may be left out."""
    return Annotated[str, Field(title=title, **limits)] | None


File = _text("Path")
Unit = _text("Unit", json_schema_extra={"enum": list(UNITS)})
Name = Annotated[str, said("Name", "Of the study; asked again by its name, it goes on.")]
Given = Annotated[
    Values | Parameters | None,
    _Form(),
    said("Parameters", "What is left as it is stays as the scenario has it; at its first run, as PRISM has it."),
]
Start = Annotated[str, said("First month", "Like 2015-01."), Field(pattern=f"^{MONTH}$")]
End = Annotated[str, said("Last month", "Like 2024-12."), Field(pattern=f"^{MONTH}$")]
Scenario = Annotated[str, said("Scenario", "Named line of results; main is the one that is published.")]
WhatIf = Annotated[
    _text("Name"), said("Scenario", "Where results go; None: a name made of what differs from main, whatif-...")
]
Path = Annotated[
    _text("Path"), said("Own prices", "Parquet or CSV file of prices, or a folder of them, where the run takes place.")
]
Amend = Annotated[
    _text("Reason"), said("Amendment", "Why parameters change from the month after the newest decided one on.")
]
AsOf = Annotated[date | None, said("As of", "Decide with what was known up to this date; None: with all.")]
Due = Annotated[bool, said("Due", "Fail where prices do not reach the session that a decision is due on.")]
Months = Annotated[int, said("Months", "Also fill what is missing in the last so many months."), Field(ge=1)]
