"""Every limit and every choice of every config refuses what lies beyond it, by name, value and rule."""

import dataclasses
import math
import re
from typing import get_args, get_type_hints

import pytest

from tasks.numerics import configs
from tasks.numerics.configs import Config, FeatureConfig, Forecaster, OnlineConfig, ReturnDrawdownConfig

ALL = [c for c in vars(configs).values() if isinstance(c, type) and issubclass(c, Config) and c is not Config]
WORDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
BESIDE = {  # what must hold too where a value of this field does
    "gross_limit": {"fully_invested": False},
    "geometry": {"turnover_weight": 0.0, "l1_weight": 0.0},
}
OUTWARDS = {"ge": -math.inf, "gt": -math.inf, "le": math.inf, "lt": math.inf}
LIMITS = [(c, f, name) for c in ALL for f in dataclasses.fields(c) for name in WORDS if name in f.metadata]
CHOICES = [(c, f) for c in ALL for f in dataclasses.fields(c) if get_args(get_type_hints(c)[f.name])]


def named(case):
    return "-".join(str(getattr(part, "name", getattr(part, "__name__", part))) for part in case)


def test_every_number_has_a_lower_limit_and_every_text_choices():
    bounded = {(config, field.name) for config, field, name in LIMITS if name in ("ge", "gt")}
    bounded |= {(config, field.name) for config, field in CHOICES}
    bounded |= {(c, f.name) for c in ALL for f in dataclasses.fields(c) if get_type_hints(c)[f.name] is bool}
    bounded |= {(c, f.name) for c in ALL for f in dataclasses.fields(c) if {"names", "text"} & {*f.metadata}}
    assert bounded == {(config, field.name) for config in ALL for field in dataclasses.fields(config)}


@pytest.mark.parametrize("case", LIMITS, ids=named)
def test_a_value_beyond_a_limit_is_refused_with_its_rule(case):
    config, field, name = case
    limit = field.metadata[name]
    beyond = limit if name in ("gt", "lt") else math.nextafter(limit, OUTWARDS[name])
    said = f"{field.name} is {beyond!r}; it must be {WORDS[name]} {limit}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        config(**{field.name: beyond})


@pytest.mark.parametrize("case", LIMITS, ids=named)
def test_a_value_at_or_just_within_a_limit_is_taken(case):
    config, field, name = case
    limit = field.metadata[name]
    within = limit if name in ("ge", "le") else math.nextafter(limit, -OUTWARDS[name])
    assert getattr(config(**BESIDE.get(field.name, {}) | {field.name: within}), field.name) == within


@pytest.mark.parametrize("case", CHOICES, ids=named)
def test_a_value_that_is_no_choice_is_refused_with_the_choices(case):
    config, field = case
    choices = get_args(get_type_hints(config)[field.name])
    said = f"{field.name} is 'nonsense'; it must be one of {', '.join(map(repr, choices))}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        config(**{field.name: "nonsense"})
    for choice in choices:
        assert getattr(config(**BESIDE.get(field.name, {}) | {field.name: choice}), field.name) == choice


@pytest.mark.parametrize("case", LIMITS, ids=named)
def test_not_a_number_is_refused_by_every_limit(case):
    config, field, _ = case
    with pytest.raises(ValueError, match=f"{field.name} is nan; it must be"):
        config(**{field.name: math.nan})


@pytest.mark.parametrize("config", ALL)
def test_every_field_has_a_default_within_its_limits_and_a_description(config):
    config()
    assert all(field.metadata["description"].endswith(".") for field in dataclasses.fields(config))


@pytest.mark.parametrize("config", [*ALL, Forecaster])
def test_configs_cannot_be_changed_and_equal_values_are_equal(config):
    one = config()
    assert one == config()
    assert hash(one) == hash(config())
    name = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, name, None)


def test_a_replaced_value_is_checked_too():
    with pytest.raises(ValueError, match="window is 4; it must be at least 5"):
        dataclasses.replace(OnlineConfig(), window=4)
    with pytest.raises(ValueError, match="lookback is 1000"):
        FeatureConfig(lookback=1000)


def test_the_named_strategies_differ_where_the_formulas_say():
    changed = {
        field.name
        for field in dataclasses.fields(OnlineConfig)
        if getattr(configs.OGD_LONG_WINDOW, field.name) != getattr(configs.OGD_CONSERVATIVE, field.name)
    }
    assert changed == {"learning_rate", "momentum"}
    assert (configs.OGD_LONG_WINDOW.window, configs.OGD_LONG_WINDOW.decay) == (90, 0.997)


@pytest.mark.parametrize(
    "values",
    [
        {"gross_limit": 0.9},
        {"effective_minimum": 30.0, "effective_maximum": 20.0},
        {"geometry": "entropy"},
        {"geometry": "entropy", "turnover_weight": 0.0, "l1_weight": 0.0, "short_each": 1.0, "short_total": 1.0},
        {"geometry": "entropy", "turnover_weight": 0.0, "l1_weight": 0.0, "fully_invested": False}
        | {"short_each": 0.1, "short_total": 1.0},
        {"max_positions": 3, "geometry": "entropy", "turnover_weight": 0.0, "l1_weight": 0.0},
    ],
)
def test_values_that_contradict_each_other_are_refused_by_name(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        OnlineConfig(**values)


@pytest.mark.parametrize(
    "text", ["Energy", "Energy=", "=0.1", "Energy=0.1,Energy=0.2", "Energy=x", "a=inf", "a=1,,b=2"]
)
def test_text_that_is_no_list_of_names_and_numbers_is_refused(text):
    with pytest.raises(ValueError, match=f"^sector_caps is {re.escape(repr(text))}; "):
        ReturnDrawdownConfig(sector_caps=text)


def test_names_and_numbers_are_read():
    assert configs.named_numbers("Energy=0.1, my.term = -2") == {"Energy": 0.1, "my.term": -2.0}
    assert configs.named_numbers(" ") == {}
