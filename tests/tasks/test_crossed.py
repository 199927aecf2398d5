"""Forecasts by what was learned at another date: those of the stage where it is the same one."""

from dataclasses import replace

import numpy as np
import pytest

from tasks import crossed, histories
from tasks.numerics.configs import ForecastConfig


def known(run, moment):
    return histories.load(run.store, run.panel, run.seen(moment))


def stored(rows, month):
    own = rows[rows["key"] == month.forecast]
    return dict(zip(own["ticker"], zip(own["mean"], own["variance"], strict=True), strict=True))


@pytest.mark.parametrize("kind", ["ewma", "calibrated_ewma", "historical"])
def test_simple_forecasts_by_their_own_date_are_those_that_are_stored(market, small, forecasting, kind):
    run = forecasting(market, market.panel(), replace(small, forecast=ForecastConfig(kind)))
    months = run.months(2016)[1:3]
    run.forecast(months)
    rows, history = run.rows(months), known(run, months[1].moment)
    teachers = [crossed.simple(run.loaded, history, month.moment.as_of, run.config) for month in months]
    for month, teacher in zip(months, teachers, strict=True):
        assert crossed.forecasts(run.loaded, history, month.moment.as_of, teacher) == stored(rows, month)
    across = crossed.forecasts(run.loaded, history, months[1].moment.as_of, teachers[0])
    assert (across == stored(rows, months[1])) == (kind == "historical")  # which learns nothing
    assert crossed.of_members(run.loaded, history, months[1].moment.as_of, teachers[0]) == []


def test_a_network_forecasts_as_stored_and_is_the_mixture_of_its_members(market, small, forecasting):
    config = replace(small, training=replace(small.training, ensemble=2))
    run = forecasting(market, market.panel(), config)
    months = run.months(2016)[:2]
    run.train(2016)
    run.forecast(months)
    rows, day = run.rows(months), months[1].moment.as_of
    history = known(run, months[1].moment)
    old, new = (crossed.network(run.store, month.model, config) for month in months)
    pooled = crossed.forecasts(run.loaded, history, day, new)
    assert pooled == stored(rows, months[1])
    assert crossed.forecasts(run.loaded, history, day, old) != pooled
    alone = crossed.of_members(run.loaded, history, day, new)
    assert len(alone) == 2
    assert alone[0] != alone[1]
    for ticker, (mean, variance) in pooled.items():
        means, variances = np.array([each[ticker] for each in alone]).T
        # the residual head is affine in the mean and scales the variance
        assert means.mean() == pytest.approx(mean, rel=1e-9)
        assert variances.mean() + means.var() == pytest.approx(variance, rel=1e-9)
    assert crossed.of_members(run.loaded, history, day, old) != alone
