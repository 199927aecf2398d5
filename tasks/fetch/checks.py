"""The declared schema of price data: every rule, what breaking it leads to, and where the rule comes from.

    fatal   nothing of the delivery is stored for the ticker, the old data stay
    hold    sessions before the offending one are taken, from it on they wait
    warn    reported; only rows that hold no price or lie off the calendar are left out

The rules of `READING` are the file reader's, which refuses single rows; `tasks.fetch.rules` evaluates the others.
"""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fatal", "hold", "warn"]


@dataclass(frozen=True)
class Check:
    """One rule."""

    name: str
    severity: Severity
    rule: str  # what breaks it
    source: str


# What a person's file must be to be read at all
READING = (
    Check("no_ticker", "warn", "A row has no ticker.", "Bars are kept by ticker and session."),
    Check("bad_ticker", "warn", "A ticker cannot be told from others when read.", "Look-alikes: Unicode report 39."),
    Check("no_date", "warn", "A row's date is empty or not year first.", "ISO 8601; 03/04 has two meanings."),
    Check("no_close", "warn", "A row has no close, but another row of its day has.", "One bar a ticker and session."),
    Check("not_a_number", "warn", "A number holds other text, or is infinite.", "Nothing is guessed."),
)

# What can never be right: the whole delivery of a ticker is doubtful
FATAL = (
    Check("symbol_changed", "fatal", "The source answers for another symbol than before.", "forecastbench issue 304."),
    Check("currency_changed", "fatal", "The currency or its unit differs from before.", "yfinance issues 2866, 2538."),
    Check("conflicting_duplicate", "fatal", "Rows of one day disagree.", "Intraday scrapes stacked on a settled bar."),
    Check(
        "non_positive_price", "fatal", "Open, high, low or close is 0, negative or infinite.", "yfinance issue 2857."
    ),
    Check("adj_close_not_positive", "fatal", "The adjusted close is 0 or negative.", "SSNLF, LTI.L, VATE at Yahoo."),
    Check("high_below_low", "fatal", "The high is below the low.", "What a bar is."),
    Check(
        "close_outside_range",
        "fatal",
        "The close is far outside of low to high.",
        "What a bar is; EMP, LSC.L at Yahoo.",
    ),
    Check("negative_volume", "fatal", "The volume is negative.", "What a bar is."),
    Check("negative_dividend", "fatal", "A dividend is negative.", "Nobody is charged for holding a share."),
    Check("negative_split", "fatal", "A split ratio is 0 or negative.", "New shares for one old share."),
    Check(
        "unit_error", "fatal", "Prices change by a factor of 100 or 1/100.", "Pence and pounds: yfinance issue 1531."
    ),
)

# What may be right, and must not be traded on before somebody looked or the source settled
HOLD = (
    Check("no_usable_bar", "hold", "No bar is left.", "Nothing can be stored of it."),
    Check("nan_last", "hold", "The newest rows hold no price.", "yfinance issues 2895 and 2925."),
    Check("action_lost", "hold", "A row that is left out carried a dividend or split.", "Returns would lack it."),
    Check("missing_last", "hold", "The newest completed sessions are absent.", "yfinance issues 843 and 2964."),
    Check(
        "split_like_step",
        "hold",
        "Prices step overnight by a usual split ratio and stay, without a split listed or trading to explain it.",
        "Yahoo lost the splits of AAPL, NVDA and TSLA for days: yfinance issue 906.",
    ),
    Check(
        "split_without_step",
        "hold",
        "Closes and the list of splits disagree: the ratio is left in a return on the day or near it.",
        "Splits applied late, twice or on a wrong day: yfinance issues 1531 and 1543; DEX.AX at Yahoo.",
    ),
    Check("fresh_split", "hold", "A split of the last days is not in the prices yet.", "yfinance issue 1531."),
    Check(
        "unexplained_return",
        "hold",
        "The source's total return differs from ours by more than its definition explains.",
        "Spin-offs and special dividends that are in the adjusted close only: WY 2010-07-20.",
    ),
    Check(
        "dividend_without_drop",
        "hold",
        "A dividend is a large part of the price, and the close does not fall by half of it.",
        "Dividends in a hundredth of the unit become returns: LSC.L at Yahoo, where the adjusted close agrees.",
    ),
    Check(
        "dividend_basis",
        "hold",
        "The adjusted close holds most dividends at one constant multiple of those listed.",
        "Dividends adjusted to another date than closes: GE, HON, CMCSA, AVGO, NVDA and LRCX at Yahoo.",
    ),
    Check(
        "dividends_absent",
        "hold",
        "The adjusted close takes off dividends, and most of them are not listed.",
        "Without them returns lack some percent a year: yfinance issue 930.",
    ),
    Check(
        "frozen_end", "hold", "The newest sessions repeat one bar.", "A feed that stands still: yfinance issue 2966."
    ),
    Check(
        "source_outage",
        "hold",
        "Most tickers lack the newest session or repeat the price before it.",
        "Rows lost under load: yfinance issues 809 and 908.",
    ),
)

WARN = (
    Check("listing_changed", "warn", "Exchange, kind or first trade date differ from before.", "Symbols are reused."),
    Check("session", "warn", "A row lies on a day without trading.", "The exchange's calendar; yahooquery issue 127."),
    Check("nan_price", "warn", "A row between others holds no price.", "yfinance issue 2925; EAI and EMP at Yahoo."),
    Check("missing_sessions", "warn", "Sessions between others have no row.", "The exchange's calendar."),
    Check("missing_known", "warn", "Stored sessions are absent from the delivery.", "Silently shorter histories."),
    Check("partial_bar", "warn", "A close lacks the open, high or low that others have.", "DIS 2012-08-01 at Google."),
    Check(
        "open_off_range", "warn", "The open is outside of low to high.", "Auctions; the sound KMR.L has it at Yahoo."
    ),
    Check(
        "close_off_range", "warn", "The close is a little outside of low to high.", "Auctions; ADIG.L, SHEL at Yahoo."
    ),
    Check("jump", "warn", "A return is far above the usual, and no action explains it.", "16 are true among 454,923."),
    Check("recent_split", "warn", "A split of the last days, or to come, fits so far.", "yfinance issue 2002."),
    Check("identity", "warn", "Adjusted close and dividend disagree.", "The factor 1 - D/C[-1] of adjusted closes."),
    Check("adjusted_factor", "warn", "Adjusted over close is above 1, or falls.", "Dividends are taken off the past."),
    Check(
        "dividend_yield", "warn", "A dividend is a large part of the price.", "Wrong units: ALC.SW, HLCL.L at Yahoo."
    ),
    Check("dividend_cluster", "warn", "Two ex-dates lie within days.", "One dividend listed twice."),
    Check("dividend_scale", "warn", "A yield is out of scale with its neighbours.", "Pence as pounds: LSC.L at Yahoo."),
    Check("dividend_gap", "warn", "A regular payer leaves one out.", "Lost ex-dates: yfinance issue 930."),
    Check(
        "event_without_bar",
        "warn",
        "An action's day has no bar; the next one carries it.",
        "Lost rows of ex-dates: yfinance issue 2964.",
    ),
    Check("gain_twice", "warn", "A capital gain is counted in the dividend, too.", "DODFX at Yahoo."),
    Check("frozen", "warn", "Sessions in a row repeat one bar.", "yfinance issue 2966."),
    Check("zero_volume", "warn", "A traded asset has a session without volume.", "yfinance issue 2686."),
    Check("thin_volume", "warn", "Many sessions have no volume.", "Prices that nobody traded at: QUBT, RCAT, SHPW."),
    Check("calendar", "warn", "Nearly all tickers lack one session.", "An unscheduled closure looks like this."),
    Check("source_gap", "warn", "Many tickers lack a past session, or repeat a price.", "yfinance issue 2964."),
)

CHECKS = (*READING, *FATAL, *HOLD, *WARN)
BY_NAME = {check.name: check for check in CHECKS}
