"""WHEN: the order of the stages, the dates, and what a person fills in. No arithmetic, no file names."""

from pathlib import Path

from storage.settings import prepare_environment

# Prefect, numba and BLAS read their settings when they are imported, which is next.
prepare_environment(kernels=Path(__file__).parents[1] / "tasks" / "numerics")
