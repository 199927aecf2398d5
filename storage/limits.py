"""Limits on what is published without a person's approval, from the environment.

PRISM_LIMIT_TURNOVER    half the sum of absolute trades, as a part of wealth
PRISM_LIMIT_WEIGHT      the largest position
PRISM_LIMIT_SECTOR      the largest sum of one sector
PRISM_LIMIT_DISTANCE    half the sum of absolute differences to the weights of the date before
PRISM_LIMIT_VOLATILITY  change of the predicted volatility since the date before, as a part of it
PRISM_LIMIT_MISSING     share of the universe that is left out

They are settings of the place that publishes, and no parameters: no number depends on them, so that they are in no key
and make no scenario of its own, and whoever starts a run by the form cannot loosen them there.
"""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from storage.settings import Environment


class Limits(Environment):
    """The limits that are set; None: no limit."""

    model_config = SettingsConfigDict(env_prefix="PRISM_LIMIT_", frozen=True)

    turnover: float | None = Field(default=None, ge=0)
    weight: float | None = Field(default=None, ge=0)
    sector: float | None = Field(default=None, ge=0)
    distance: float | None = Field(default=None, ge=0)
    volatility: float | None = Field(default=None, ge=0)
    missing: float | None = Field(default=None, ge=0, le=1)

    def values(self) -> dict[str, float]:
        """Those that are set, by name."""
        return self.model_dump(exclude_none=True)
