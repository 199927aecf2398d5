"""What was paid and no source lists, such as a spin-off's shares: booked once a person accepts the source's return.

A close falls by what leaves the company. Where it is not listed as a dividend, only the source's adjusted close knows
of it, and the gate holds the ticker. Accepting it books the difference as an action of its own, a `distribution` in
currency per share, so that the return is the source's; the same delivery next month finds it booked.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from tasks.fetch.delivery import Delivery
from tasks.fetch.series import Series
from tasks.numerics import quality

KIND = "distribution"


def booked(delivery: Delivery, known: pd.DataFrame) -> Delivery:
    """The delivery with the distributions that are known of its ticker, as part of its dividends."""
    if known.empty:
        return delivery
    mine = known[(known["ticker"] == delivery.ticker) & (known["kind"] == KIND)]
    sessions = delivery.bars["session"].to_numpy()
    place = np.searchsorted(sessions, mine["ex_date"].to_numpy())  # a day without a bar belongs to the next one
    inside = (place < sessions.size) & (mine["ex_date"].to_numpy() >= sessions[0])
    return _paid(delivery, pd.Series(mine["value"].to_numpy()[inside], sessions[place[inside]]))


def accepted(delivery: Delivery, least: float) -> Delivery:
    """The delivery with a distribution wherever its return differs from the source's by more than `least`.

    Sessions with a price that is not positive have no return; the gate leaves them out afterwards.
    """
    rows = delivery.bars[(delivery.bars[["close", "adj_close"]] > 0).all(axis=1)]
    series = Series.of(rows)
    gap = quality.unexplained(series.vendor, series.simple, series.paid)
    odd = series.compared & (np.abs(gap) > least)
    value = (series.implied - series.paid) * quality.before(series.close) / series.split
    found = pd.DataFrame({"ex_date": rows["session"], "kind": KIND, "value": value})
    new = found[odd].reset_index(drop=True)
    actions = pd.concat([delivery.actions, new], ignore_index=True) if len(new) else delivery.actions
    return replace(_paid(delivery, new.set_index("ex_date")["value"]), actions=actions)


def _paid(delivery: Delivery, values: pd.Series) -> Delivery:
    """The delivery with `values`, by session, on top of its dividends."""
    if values.empty:
        return delivery
    extra = delivery.bars["session"].map(values.groupby(level=0).sum())
    dividend = delivery.bars["dividend"].fillna(0.0).add(extra).where(extra.notna(), delivery.bars["dividend"])
    return replace(delivery, bars=delivery.bars.assign(dividend=dividend))
