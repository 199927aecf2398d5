"""The registry of studies: every entry can be run."""

from dataclasses import replace

import pytest

from flows import parameters as forms
from flows.parameters import STRATEGIES
from storage.errors import InputError
from tasks import studies
from tasks.report import luck
from tasks.studies import GROUPS, STUDIES, Variant


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_is_a_config_and_every_label_is_one_of_them(name):
    study = STUDIES[name]
    labels = [variant.label for variant in study.variants]
    assert len(set(labels)) == len(labels)
    named = {study.default, *study.candidates, *(study.worth[1:] if study.worth[0] else ())}
    named |= {label for claim in study.claims for label in (claim.of, claim.against) if label}
    assert named <= set(labels)
    assert len(study.bands) <= len(luck._LINES)  # each is drawn in a colour of its own
    assert all(claim.of or study.candidates for claim in study.claims)
    for variant in study.variants:
        values = forms.Parameters().values()
        for place, value in {**study.common, **variant.changes}.items():
            assert place in forms.names()
            values = forms.merged(values, forms.nested(place, value))
        strategy = study.strategy_of(variant)
        assert strategy in STRATEGIES
        made = forms.make(values | {"strategies": [strategy], "publish": strategy}).values()
        for place, value in variant.changes.items():
            assert forms.flat(made)[place] == value


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if not study.common.get("universe")])
def test_one_variant_is_the_default_as_it_stands(name):
    study = STUDIES[name]
    (default,) = [variant for variant in study.variants if variant.label == study.default]
    ours = forms.flat(forms.Parameters().values())
    if name not in ("shorts", "leverage"):  # whose question is what they add to none
        assert all(ours[place] == value for place, value in default.changes.items())


def test_kinds_of_market_go_with_neither_claims_nor_tranches():
    claimed, plain = STUDIES["document_b"], STUDIES["window"]
    with pytest.raises(ValueError, match="a study by kind of market has claims or candidates"):
        replace(claimed, candidates=(), by_regime=True)
    with pytest.raises(ValueError, match="a study by kind of market has claims or candidates"):
        replace(plain, candidates=("21", "63"))
    with pytest.raises(ValueError, match="a study by kind of market has variants in tranches"):
        replace(plain, variants=(*plain.variants, Variant("three", offsets=(0, 7, 14))))


def test_tranches_part_every_day_of_a_month_once_and_share_their_scenarios_with_single_days():
    by_band = {}
    for variant in STUDIES["tranches"].variants:
        by_band.setdefault(variant.band, []).extend(change["rebalance_offset"] for change in variant.scenarios)
    assert list(by_band) == ["one day", "3 tranches", "7 tranches", "21 tranches"]
    assert all(sorted(days) == list(range(21)) for days in by_band.values())
    single = [variant.changes for variant in STUDIES["offset"].variants]
    assert [dict(changes) for changes in single] == [
        dict(changes) for variant in STUDIES["tranches"].variants[:21] for changes in variant.scenarios
    ]


def test_a_name_stands_for_one_study_or_several_and_a_wrong_one_is_answered_with_the_nearest():
    assert studies.named("turnover") == ["turnover"]
    assert studies.named("claims") == ["document_a", "document_b"] == list(GROUPS["claims"])
    with pytest.raises(InputError, match="there is no study 'turnovers'; did you mean turnover"):
        studies.named("turnovers")


def test_all_that_can_be_asked_is_listed():
    assert [row["study"] for row in studies.listed()] == [*STUDIES, *GROUPS] == list(studies.NAMES)
