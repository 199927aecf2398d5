"""Years and times of stress: closes to closes, whole or not."""

from datetime import date

import numpy as np
import pytest
import skfolio.measures as reference

from tasks.numerics import periods

days = np.arange("2018-08-01", "2020-06-01", dtype="datetime64[D]")
days = days[np.is_busday(days)]


def record(sessions, following, start=0):
    rng = np.random.default_rng(start)
    daily = rng.normal(0.0003, 0.01, sessions.size)
    cash = np.full(sessions.size, 1e-4)
    traded = sessions[::50]
    turnover = rng.uniform(0, 1, traded.size)
    before = np.busday_offset(sessions[0], -1).item()
    parts = periods.measured(before, sessions, following, daily, cash, traded, turnover)
    return daily, traded, turnover, {part.period: part for part in parts}


def test_each_part_holds_the_returns_after_one_close_up_to_another():
    daily, traded, turnover, found = record(days, date(2020, 6, 1))
    assert list(found) == ["2018", "2019", "2020", "fourth_quarter_2018", "covid_2020"]
    part = found["covid_2020"]
    assert (part.kind, part.start, part.end, part.whole) == ("stress", date(2020, 2, 19), date(2020, 3, 23), True)
    inside = (days > np.datetime64("2020-02-19")) & (days <= np.datetime64("2020-03-23"))
    returns = daily[inside]
    excess = returns - 1e-4
    depth = reference.get_drawdowns(returns, compounded=True)
    assert part.measures == pytest.approx(
        {
            "return": np.prod(1 + returns) - 1,
            "volatility": reference.standard_deviation(returns) * 252**0.5,
            "sharpe": excess.mean() / excess.std(ddof=1) * 252**0.5,
            "max_drawdown": reference.max_drawdown(depth),
            "turnover": turnover[np.isin(traded, days[inside])].sum(),
        }
    )


def test_years_join_to_the_whole_record():
    daily, _, turnover, found = record(days, date(2020, 6, 1))
    years = [found[year].measures for year in ("2018", "2019", "2020")]
    assert np.prod([1 + year["return"] for year in years]) == pytest.approx(np.prod(1 + daily))
    assert sum(year["turnover"] for year in years) == pytest.approx(turnover.sum())


def test_a_part_is_whole_if_the_record_begins_at_its_first_close_and_ends_at_its_last():
    whole = {name: part.whole for name, part in record(days, date(2020, 6, 1))[3].items()}
    assert whole == {"2018": False, "2019": True, "2020": False, "fourth_quarter_2018": True, "covid_2020": True}
    cut = days[(days >= np.datetime64("2019-01-01")) & (days <= np.datetime64("2019-12-30"))]
    assert not record(cut, date(2019, 12, 31))[3]["2019"].whole
    assert record(cut, date(2020, 1, 2))[3]["2019"].whole  # no session was missed: the next one is of another year
    assert not record(cut[1:], date(2020, 1, 2))[3]["2019"].whole


def test_a_part_of_one_session_has_a_return_and_no_ratio():
    found = record(days[:1], date(2018, 8, 2))[3]["2018"]
    assert np.isfinite(found.measures["return"])
    assert np.isnan([found.measures["volatility"], found.measures["sharpe"]]).all()


def test_the_times_of_stress_are_in_order_and_begin_before_they_end():
    spans = list(periods.STRESS.values())
    assert spans == sorted(spans)
    assert all(first < last for first, last in spans)
