"""How a live source is asked, and what counts as enough of an answer: operations, never part of a key.

Each is an environment variable, PRISM_YAHOO_RATE for `rate`; `prism doctor` prints them. Where a number comes from is
said beside it.
"""

from datetime import date

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from storage.settings import Environment
from tasks.fetch.thresholds import Thresholds


class QualitySettings(Environment, Thresholds):
    """Thresholds of the quality gate; each says where its number comes from."""

    model_config = SettingsConfigDict(env_prefix="PRISM_QUALITY_", frozen=True)


class YahooSettings(Environment):
    """Pace, patience and quorum of the Yahoo source."""

    model_config = SettingsConfigDict(env_prefix="PRISM_YAHOO_", frozen=True)

    since: date = Field(date(2000, 1, 1), description="First day asked for when a ticker's whole history is fetched.")
    rate: float = Field(
        1.5, gt=0, le=50, description="HTTP requests a second, all tickers together; users report 1 in 2 s as safe."
    )
    workers: int = Field(3, ge=1, le=8, description="Tickers asked for at once; the pace is shared.")
    timeout: float = Field(10, gt=0, le=120, description="Seconds that one answer may take.")
    tries: int = Field(3, ge=1, le=10, description="Tries for a ticker whose answer is lost or cut.")
    pause: float = Field(60, gt=0, description="Seconds that everything waits after a 429, doubled each time.")
    longest_pause: float = Field(900, gt=0, description="Longest such pause, and the longest Retry-After obeyed.")
    openings: int = Field(3, ge=1, description="Pauses after which the rest is left to the next run.")
    settle: float = Field(30, ge=0, le=1440, description="Minutes after a close until its bar counts as final.")
    overlap: int = Field(250, ge=10, description="Sessions fetched again between two whole histories, to compare.")
    revised_share: float = Field(
        0.05, gt=0, le=1, description="Share of shared sessions that a source may revise; more is another series."
    )
    volume_revision: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Change of a stored volume up to which it stays; late prints move it by some percent.",
    )
    complete_share: float = Field(
        0.98, gt=0, le=1, description="Share of tickers answered from which nothing is missed."
    )
    least_share: float = Field(
        0.9, gt=0, le=1, description="Share of tickers answered below which no snapshot is taken."
    )
    retire_days: int = Field(3, ge=2, description="Days on which a ticker must be unknown to the source to be retired.")
