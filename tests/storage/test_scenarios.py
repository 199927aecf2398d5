"""Scenarios: fixed by their first decided month, amended from a month on, named by a plain word."""

from datetime import date

import pytest

from storage import ledger, scenarios
from storage.errors import InputError, StoreError
from storage.ledger import Decision
from storage.scenarios import FROM_THE_START, Terms


def terms(alpha, valid_from=FROM_THE_START, reason=None, dataset="sample"):
    return Terms(dataset, "universe", {"alpha": alpha, "names": ["x"]}, valid_from, reason)


def decide(store, scenario="main"):
    day = date(2024, 1, 2)
    ledger.append(store, [Decision(scenario, day, date(2023, 12, 29), "backfill", None, ("w",), "t", {})])


def test_a_scenario_is_not_fixed_before_its_first_decision(store):
    assert scenarios.read(store, "main") == []
    scenarios.write(store, "main", terms(0.1))
    assert scenarios.read(store, "main") == []
    decide(store, "other")
    assert scenarios.read(store, "main") == []
    decide(store)
    assert scenarios.read(store, "main") == [terms(0.1)]


def test_terms_of_a_run_that_died_before_it_decided_count_for_nothing(store):
    scenarios.write(store, "main", terms(0.1, dataset="yahoo"))
    scenarios.write(store, "main", terms(0.2))
    decide(store)
    assert scenarios.read(store, "main") == [terms(0.2)]


def test_an_amendment_holds_from_its_month_and_earlier_months_keep_theirs(store):
    first, second = terms(0.1), terms(0.2, date(2024, 3, 1), "tuned")
    for entry in (first, second):
        scenarios.write(store, "main", entry)
    decide(store)
    found = scenarios.read(store, "main")
    assert found == [first, second]
    assert [scenarios.at(found, date(2024, 2, 29)), scenarios.at(found, date(2024, 3, 1))] == [first, second]
    assert scenarios.at(found, date(1900, 1, 1)) == first
    assert scenarios.at(found, date(2031, 1, 1)) == second


def test_an_amendment_replaces_those_of_its_month_and_of_later_ones(store):
    for entry in (terms(0.1), terms(0.2, date(2024, 3, 1)), terms(0.3, date(2024, 5, 1)), terms(0.4, date(2024, 3, 1))):
        scenarios.write(store, "main", entry)
    decide(store)
    assert [entry.parameters["alpha"] for entry in scenarios.read(store, "main")] == [0.1, 0.4]


def test_scenarios_do_not_see_each_other(store):
    for name in ("main", "it's", "x' OR '1'='1"):
        scenarios.write(store, name, terms(len(name)))
        decide(store, name)
    for name in ("main", "it's", "x' OR '1'='1"):
        assert scenarios.read(store, name) == [terms(len(name))]


def test_another_writer_in_between_costs_a_further_try_and_nothing_else(store, monkeypatch):
    claim = scenarios.tables.claim

    def interrupted(*arguments):
        monkeypatch.setattr(scenarios.tables, "claim", claim)
        scenarios.write(store, "main", terms(0.1))
        return claim(*arguments)

    monkeypatch.setattr(scenarios.tables, "claim", interrupted)
    scenarios.write(store, "main", terms(0.2, date(2024, 3, 1)))
    decide(store)
    assert [entry.parameters["alpha"] for entry in scenarios.read(store, "main")] == [0.1, 0.2]


def test_two_runs_that_fix_a_scenario_at_once_fix_it_once(store):
    for _ in range(2):
        scenarios.write(store, "main", terms(0.1))
    assert scenarios.tables.read(store, "scenarios").num_rows == 1


def test_a_scenario_that_never_stands_still_is_given_up(store, monkeypatch):
    monkeypatch.setattr(scenarios.tables, "claim", lambda *_: False)
    with pytest.raises(StoreError, match="scenario main: other runs keep changing it"):
        scenarios.write(store, "main", terms(0.1))


@pytest.mark.parametrize("name", ["main", "a", "0", "what-if_2", "whatif-0123abcd", "a" * 63])
def test_a_plain_word_names_a_scenario(name):
    assert scenarios.checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "Main", "a b", "-a", "_a", "a" * 64, "a/b", "..", "a.b", "it's", "é", "a\n", "a\0"]
)
def test_any_other_name_is_refused(name):
    with pytest.raises(InputError, match="must be lower-case letters, digits, - and _, at most 63"):
        scenarios.checked_name(name)
