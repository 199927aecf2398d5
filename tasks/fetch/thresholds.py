"""Where the quality gate draws its lines: every number a person may move, and where it comes from.

Filled from the environment by the settings: PRISM_QUALITY_JUMP=0.5 for `jump`.
"""

from pydantic import BaseModel, Field


class Thresholds(BaseModel, frozen=True):
    """Limits of the quality gate. Prices are compared by their natural logarithm, shares are fractions of 1."""

    rounding: float = Field(
        default=1e-6,
        ge=0,
        le=1e-3,
        description="Relative amount by which open and close may lie outside of low to high, and absolute rounding of "
        "every price where adjusted closes are compared. Source: Yahoo gives single precision, files six decimals.",
    )
    outside: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of the close by which it may lie outside of low to high and only be reported. Source: the "
        "closing auction puts ADIG.L 0.1 % and SHEL 0.7 % outside at Yahoo, where bad rows are up to 15 % off.",
    )
    overlap: float = Field(
        default=2e-4,
        gt=0,
        le=0.01,
        description="Relative difference of two deliveries of one price, or of one return, that is no difference. "
        "Source: single precision, and adjusted closes that wobble between calls (yfinance issue 1038), stay below it.",
    )
    jump: float = Field(
        default=0.4,
        gt=0,
        le=5,
        description="Absolute log return of a session from which a move is reported. Source: 16 of the 454,923 daily "
        "returns of 121 large US assets, 2005 to 2020, are larger, and all of them are true.",
    )
    jump_sigmas: float = Field(
        default=8.0,
        gt=0,
        le=100,
        description="The same in robust standard deviations of the asset; the larger of both counts. Source: eight "
        "deviations spare assets that move by 5 % on an ordinary day.",
    )
    unit_tolerance: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="How near to ln 100 a log return is taken as a change of unit. Source: the day's own move is in "
        "it; pence quoted as pounds are yfinance issues 280 and 1531.",
    )
    split_tolerance: float = Field(
        default=0.05,
        gt=0,
        le=0.2,
        description="How near to the logarithm of a usual split ratio a jump is taken as an unlisted split; half of it "
        "where there is no volume or open to tell. Source: the day's own move is in it, 3.3 % for AAPL on 2020-08-31; "
        "the nearest true halving without volume (AAPL 2000-09-29) misses by 3.8 %.",
    )
    split_volume: float = Field(
        default=2.0,
        ge=1,
        description="Volume, in multiples of its median over 20 sessions and of the step, above which a jump is "
        "trading and no split. Source: the true moves above 40 % of 2005 to 2020 trade 3 to 56 times their median.",
    )
    split_sigmas: float = Field(
        default=4.0,
        gt=0,
        le=100,
        description="Robust standard deviations that a log return near a listed split must reach to speak against "
        "it. Source: large US assets exceed four on 6 days a year, hardly ever by a split's size.",
    )
    split_window: int = Field(
        default=10,
        ge=0,
        le=60,
        description="Sessions around a listed split in which its step is looked for. Source: Yahoo lists some splits "
        "on a wrong day, DEX.AX in May 2023 six sessions late.",
    )
    fresh_split_days: int = Field(
        default=2,
        ge=0,
        le=30,
        description="Days before the newest session within which a split counts as fresh. Source: Yahoo rescales "
        "prices up to two days after the split (yfinance issues 1531 and 2002).",
    )
    identity: float = Field(
        default=1e-5,
        gt=0,
        le=0.01,
        description="Difference between the step of the source's adjusted close over its close and 1 - D/C[-1] that "
        "is reported. Source: 1.2e-6 is the largest on 4,172 ex-dates of 70 sound US assets.",
    )
    unexplained: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="Difference between the source's total return and ours, the D x R term taken off, that is held. "
        "Source: chosen, half the volatility of an ordinary day; a smaller one is reported by the identity.",
    )
    dividend_factor: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="Relative difference of the dividends in the adjusted close from those listed that counts as "
        "another basis. Source: a spin-off moves it by 6 % (HON) and more, rounding by 0.1 %.",
    )
    dividend_share: float = Field(
        default=0.75,
        gt=0.5,
        le=1,
        description="Share of ex-dates that must show the same difference, or be absent from the list, to make it "
        "systematic. Source: chosen, so that a special dividend more or less changes nothing.",
    )
    dividend_count: int = Field(
        default=4,
        ge=2,
        description="Fewest ex-dates of which anything systematic is said. Source: chosen, a year of quarters.",
    )
    dividend_yield: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Dividend as a share of the close before from which it is reported. Source: of 4,453 dividends "
        "of US assets, 2005 to 2020, one is larger: the spin-off of MDLZ.",
    )
    dividend_days: int = Field(
        default=7,
        ge=1,
        le=60,
        description="Days within which two ex-dates are reported. Source: Yahoo lists some dividends twice, a few "
        "days apart; nothing ordinary is paid weekly.",
    )
    dividend_scale: float = Field(
        default=50.0,
        gt=1,
        description="Ratio of a dividend's yield to the median of its neighbours' that is reported. Source: half of "
        "the hundredfold error of pence listed as pounds.",
    )
    dividend_gap: float = Field(
        default=1.75,
        gt=1,
        description="Time between two ex-dates of a regular payer, in multiples of the usual one, that is reported. "
        "Source: a missing ex-date makes it 2, a payer's shift of weeks less than 1.5 (yfinance issue 930).",
    )
    frozen: int = Field(
        default=5,
        ge=2,
        description="Sessions with the same open, high, low and close that count as a frozen feed. Source: yfinance "
        "issue 2966, where an exchange stood still for weeks while dates went on.",
    )
    thin_volume: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of sessions without volume above which an asset is thinly traded; below it each such "
        "session is odd. Source: 4 sessions in 455,044 of large US assets, 17 to 78 % of thinly traded ones.",
    )
    outage: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of tickers without a bar, or with an unchanged price, that makes a session an outage of "
        "the source. Source: chosen; in 2005 to 2020 at most 7 % of 121 large US assets closed unchanged on one day.",
    )
    calendar: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Share of tickers that lack a session above which the calendar is suspected, not the source. "
        "Source: Yahoo loses a session of some tickers, an unscheduled closure of all.",
    )
    together: int = Field(
        default=5,
        ge=2,
        description="Fewest tickers of which anything is said together. Source: chosen; shares of fewer say nothing.",
    )
