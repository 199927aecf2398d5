"""The embedded sample: the 20 large US stocks and the index whose adjusted closes skfolio bundles (1990 to 2022)."""

import importlib.metadata

import pandas as pd


def version() -> str:
    """What names the sample's content."""
    return importlib.metadata.version("skfolio")


def read() -> pd.DataFrame:
    """The sample in long form: ticker, session, close; sorted."""
    # skfolio takes two seconds to import and is needed on the first run only
    from skfolio.datasets import load_sp500_dataset, load_sp500_index

    wide = load_sp500_dataset().join(load_sp500_index())
    frame = wide.rename_axis(columns="ticker").stack().rename("close").reset_index()
    frame = frame.rename(columns={"Date": "session"}).sort_values(["ticker", "session"], ignore_index=True)
    return frame.assign(session=frame["session"].astype("datetime64[s]"))
