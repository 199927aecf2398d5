"""The form: every parameter with title, help, default, range and choices; and what becomes of what is filled in."""

from dataclasses import fields
from typing import get_args

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import build_error_obj, validate
from pydantic import TypeAdapter

from flows import form, lines
from flows import parameters as forms
from flows.backfill import backfill
from flows.ingest import ingest_prices
from flows.judge import judge
from flows.monthly import monthly_rebalance
from flows.parameters import Parameters
from flows.rebalance import rebalance
from flows.study import study
from flows.sweep import sweep
from flows.train import train_forecaster
from flows.tune import tune
from storage import universe
from storage.errors import InputError
from tasks.numerics.configs import Config

FLOWS = {
    "rebalance": rebalance,
    "monthly": monthly_rebalance,
    "backfill": backfill,
    "ingest": ingest_prices,
    "train-forecaster": train_forecaster,
    "tune": tune,
    "judge": judge,
    "sweep": sweep,
    "study": study,
}
LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
GROUPS = {name: entry.default for name, entry in Parameters.model_fields.items() if isinstance(entry.default, Config)}


@pytest.fixture(scope="module")
def schema():
    return parameter_schema(rebalance.fn).model_dump()


@pytest.fixture(scope="module")
def drawn(schema):
    return schema["properties"]["parameters"]["properties"]


def errors(schema, **parameters):
    found = validate({"parameters": parameters}, schema, ignore_required=True, allow_none_with_default=True)
    return build_error_obj(found)["errors"]


@pytest.mark.parametrize("name", FLOWS)
def test_every_argument_of_a_flow_has_a_title_of_its_own_help_and_a_default_or_must_be_given(name):
    found = parameter_schema(FLOWS[name].fn).model_dump()
    for argument, entry in found["properties"].items():
        assert entry["title"] not in ("", argument), argument
        assert entry["description"], argument
        assert ("default" in entry) != (argument in found.get("required", [])), argument
    assert found["properties"]["parameters"]["properties"] == form.schema()["properties"]


def test_every_parameter_is_drawn_folded_with_title_help_and_the_default_it_opens_with(drawn):
    assert list(drawn) == list(Parameters.model_fields)
    for name, entry in drawn.items():
        assert entry["title"][0].isupper(), name
        assert len(entry["description"]) > 10, name
        assert entry["default"] is None, name
        assert entry["anyOf"][-1] == form.AS_IT_IS, name
        default = Parameters.model_fields[name].default
        opened = entry["anyOf"][0]
        if name not in GROUPS and default != "":
            assert opened["default"] == TypeAdapter(type(default)).dump_python(default, mode="json"), name


@pytest.mark.parametrize("name", GROUPS)
def test_every_value_of_a_group_has_title_help_default_choices_and_range(drawn, name):
    opened, limits = drawn[name]["anyOf"][0]["properties"], drawn[name]["then"]["properties"]
    plain = TypeAdapter(type(GROUPS[name])).json_schema()["properties"]
    assert list(opened) == list(limits) == [entry.name for entry in fields(GROUPS[name])]
    for entry in fields(GROUPS[name]):
        shown, limit = opened[entry.name], limits[entry.name]
        assert shown["title"][0].isupper()
        assert "default" not in shown  # it would be sent, whatever the scenario has
        default = getattr(GROUPS[name], entry.name)
        assert default in ("", ()) or shown["description"].endswith(f" Default: {default}.")
        assert shown["description"].startswith(entry.metadata["description"])
        assert limit.get("enum") == plain[entry.name].get("enum")
        assert shown.get("enum") == ([True, False] if plain[entry.name].get("type") == "boolean" else limit.get("enum"))
        for kind, keyword in LIMITS.items():
            if kind in entry.metadata:
                assert limit[keyword] == entry.metadata[kind]
                assert f"{entry.metadata[kind]}" in shown["description"]


def test_choices_are_choices_and_another_universe_may_still_be_typed(drawn):
    choose, typed, _ = drawn["universe"]["anyOf"]
    assert choose["enum"] == universe.names()
    assert typed["type"] == "string"
    assert "enum" not in typed
    assert drawn["strategies"]["anyOf"][0]["items"]["enum"] == list(get_args(forms.Strategy))
    assert drawn["rebalance"]["anyOf"][0]["enum"] == ["D", "M", "Q"]


@pytest.mark.parametrize(
    ("given", "place", "sentence"),
    [
        ({"return_drawdown": {"alpha": -1}}, ["return_drawdown", "alpha"], "-1 is less than the minimum of 0"),
        ({"return_drawdown": {"alhpa": 1}}, ["return_drawdown"], "'alhpa' was unexpected"),
        ({"begin": "2015-13"}, ["begin"], "does not match"),
        ({"forecast": {"forecaster": "oracle"}}, ["forecast", "forecaster"], "is not one of"),
        ({"nonsense": 1}, [], "'nonsense' was unexpected"),
    ],
)
def test_a_wrong_value_is_answered_at_its_own_place(schema, given, place, sentence):
    found = errors(schema, **given)
    for name in ["parameters", *place]:
        found = next(entry["errors"] for entry in found if isinstance(entry, dict) and entry["property"] == name)
    assert any(sentence in message for message in found if isinstance(message, str))


def test_what_is_left_as_it_is_and_what_is_right_passes(schema):
    assert errors(schema, **dict.fromkeys(Parameters.model_fields)) == []
    assert errors(schema, return_drawdown={"alpha": 0.7}, universe="mine.csv", begin="2015-01") == []


@pytest.mark.parametrize("month", ["2015-1", "2015-13", "january"])
def test_months_carry_a_pattern(month):
    found = parameter_schema(backfill.fn).model_dump()
    assert validate({"start": month, "end": "2016-01"}, found, allow_none_with_default=True)
    assert not validate({"start": "2015-01", "end": "2016-01"}, found, allow_none_with_default=True)


def test_dates_are_dates():
    entry = parameter_schema(monthly_rebalance.fn).model_dump()["properties"]["as_of"]
    assert {"type": "string", "format": "date"}.items() <= entry["anyOf"][0].items()


def test_what_is_not_given_is_the_scenarios_own_and_parameters_are_all_given():
    own = forms.make({"return_drawdown": {"alpha": 0.5, "max_weight": 0.3}, "forecast": {"forecaster": "ewma"}})
    given = {"return_drawdown": {"alpha": 0.7, "max_weight": None}, "forecast": None}
    found = forms.over(own, given)
    assert (found.return_drawdown.alpha, found.return_drawdown.max_weight) == (0.7, 0.3)
    assert found.forecast.forecaster == "ewma"
    assert forms.over(own, None) == own
    assert forms.over(own, Parameters()) == Parameters()
    with pytest.raises(InputError, match=r"return_drawdown.alpha: .* \(got -1\)"):
        forms.over(own, {"return_drawdown": {"alpha": -1}})


def test_a_line_opens_with_values_as_with_all_parameters(store):
    with pytest.raises(InputError, match="there is no parameter 'x'"):
        lines.open_line("main", {"x": 1}, fetch=False)
