"""The simple forecasters of y, the sum of the next H own-session log returns, that a network has to beat.

    trailing        var = H x mean of the last 66 l^2
    unconditional   mean and variance of the asset's own labels known so far
    garch           var = sum over the next H sessions of E[v], v_{t+1} = omega + alpha l_t^2 + beta v_t
    calibrated      ln var = a + b ln(EWMA) + c ln(long run),   (a, b, c) by Gaussian maximum likelihood

The EWMA is `features.ewma_variance`, the long run `expanding_variance`, both times H. The calibrated one is the
strongest of them: it learns how fast volatility returns to its long-run level, in two slopes.

Everything is causal, also in its rounding: row t is the same bytes whatever is appended after t. No variance is
below VARIANCE_FLOOR a session, so that an asset which stands still has a density and a logarithm.
"""
# Shapes: A = assets, T = own sessions of the longest asset, left-aligned, N = samples of all assets pooled.

import numpy as np
from numba import njit

from tasks.numerics import windows
from tasks.numerics.features import VARIANCE_FLOOR
from tasks.numerics.windows import BoolArray, FloatArray

FEWEST = 66  # returns, or labels, of which a variance is taken
FEWEST_SAMPLES = 100  # of three coefficients
START = np.array([0.0, 1.0, 0.0])  # the EWMA as it is
TOLERANCE = 1e-10  # of the gradient, whose terms are of size 1
ROUNDING = 1e-12  # of the objective
STEPS = 100  # Newton takes about ten
COLLINEAR = 1e-8  # deviation of one log variance that the others leave unexplained


def trailing_variance(log_return: FloatArray, length: int = FEWEST) -> FloatArray:
    """Zero-mean variance of a daily log return, the mean of the last `length` squares.

    log_return: (A, T), NaN at the first session and in the padding. Returns (A, T) per session, NaN where the last
    `length` returns are not all known. Raises ValueError for a length below 1.
    """
    if length < 1:
        raise ValueError(f"length is {length}; a trailing variance needs at least 1 return")
    out = np.full(log_return.shape, np.nan)
    width = log_return.shape[1] - length + 1
    if width > 0:
        squares, total = log_return**2, np.zeros((log_return.shape[0], width))
        # elementwise additions: each window is summed anew, in the same order
        for k in range(length):
            total += squares[:, k : k + width]
        out[:, length - 1 :] = np.maximum(total / length, VARIANCE_FLOOR)
    return out


def expanding_variance(log_return: FloatArray) -> FloatArray:
    """Zero-mean variance of a daily log return, the mean of all squares so far.

    log_return: (A, T), NaN at the first session and in the padding. Returns (A, T) per session, NaN below FEWEST
    returns and where the session has none.
    """
    known = np.isfinite(log_return)
    count = np.cumsum(known, axis=1)
    total = np.cumsum(np.where(known, log_return, 0.0) ** 2, axis=1)
    variance = np.maximum(total / np.maximum(count, 1), VARIANCE_FLOOR)
    return np.where(known & (count >= FEWEST), variance, np.nan)


def unconditional(log_return: FloatArray, horizon: int) -> tuple[FloatArray, FloatArray]:
    """Mean and variance (ddof 1) of an asset's own labels known at t: those of sessions t' with t' + horizon <= t.

    log_return: (A, T). Returns two (A, T), both of the sum over the horizon, NaN below FEWEST labels and where the
    label that ends at t is not known.
    """
    ending = np.full(log_return.shape, np.nan)
    ending[:, horizon:] = windows.targets(log_return, horizon)[:, :-horizon]
    mean, variance = _running_moments(ending)
    return mean, np.maximum(variance, horizon * VARIANCE_FLOOR)


@njit(cache=True)
def _running_moments(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance (ddof 1) along each row of (A, T), NaN at a missing value, which is passed over.

    Source: Welford, Note on a method for calculating corrected sums of squares and products, Technometrics 4(3), 1962.
    """
    means, variances = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for i in range(values.shape[0]):
        count, mean, squares = 0, 0.0, 0.0
        for t in range(values.shape[1]):
            if np.isnan(values[i, t]):
                continue
            count += 1
            step = values[i, t] - mean
            mean += step / count
            squares += step * (values[i, t] - mean)
            if count >= FEWEST:
                means[i, t], variances[i, t] = mean, squares / (count - 1)
    return means, variances


def calibrate(labels: FloatArray, ewma: FloatArray, long_run: FloatArray, mean: float) -> FloatArray:
    """Coefficients of the log-linear variance that make past labels likeliest.

        argmin_theta  (1/N) sum_n [theta'x_n + (y_n - mean)^2 exp(-theta'x_n)] / 2,   x = (1, ln ewma, ln long_run)

    The problem is convex; Newton's method starts at theta = (0, 1, 0) and stops at a gradient of 1e-10, measured in
    the orthonormal basis of the x, where its terms are of size 1.

    labels, ewma and long_run: (N,), the variances of the whole horizon. Returns (3,).
    Raises ValueError for fewer than 100 samples, a label that is not finite, a variance that is not positive, log
    variances that do not vary independently, and labels that nearly all equal the mean, which have no optimum.
    """
    _check_samples(labels, ewma, long_run, mean)
    basis, triangle = np.linalg.qr(np.column_stack([np.ones(labels.size), np.log(ewma), np.log(long_run)]))
    size = np.sqrt(labels.size)
    spread = np.abs(np.diag(triangle)).min() / size
    if spread < COLLINEAR:
        raise ValueError(f"ln ewma and ln long_run vary by {spread:.1e} beyond each other; both must vary on their own")
    shift = _newton(size * basis, (labels - mean) ** 2 / ewma)
    return START + size * np.linalg.solve(triangle, shift)


def calibrated_variance(coefficients: FloatArray, ewma: FloatArray, long_run: FloatArray) -> FloatArray:
    """exp(a + b ln ewma + c ln long_run), variances of the whole horizon in any one shape; NaN where one is NaN."""
    a, b, c = coefficients
    return np.exp(a + b * np.log(ewma) + c * np.log(long_run))


def _check_samples(labels: FloatArray, ewma: FloatArray, long_run: FloatArray, mean: float) -> None:
    """Refuse samples of which no log-linear variance can be estimated."""
    if not labels.shape == ewma.shape == long_run.shape:
        raise ValueError(f"labels, ewma, long_run have shapes {labels.shape}, {ewma.shape}, {long_run.shape}; not one")
    if labels.size < FEWEST_SAMPLES:
        raise ValueError(f"{labels.size} labels are known; a calibration needs at least {FEWEST_SAMPLES}")
    _refuse_unless(np.isfinite(labels - mean), "labels - mean", labels - mean)
    _refuse_unless(np.isfinite(ewma) & (ewma > 0), "ewma", ewma)
    _refuse_unless(np.isfinite(long_run) & (long_run > 0), "long_run", long_run)


def _refuse_unless(good: BoolArray, name: str, values: FloatArray) -> None:
    """Refuse values (N,) of which one is not good."""
    bad = np.flatnonzero(~good)
    if bad.size:
        raise ValueError(f"{name} is {values[bad[0]]} at sample {bad[0]}; it must be finite, a variance also positive")


def _newton(basis: FloatArray, squares: FloatArray) -> FloatArray:
    """argmin_p mean[basis p + squares exp(-basis p)] / 2 from p = 0: basis (N, 3), orthonormal times sqrt(N)."""
    position = np.zeros(basis.shape[1])
    for _ in range(STEPS):
        weighted = squares * np.exp(-basis @ position)
        gradient = basis.T @ (1 - weighted) / (2 * squares.size)
        if np.linalg.norm(gradient) <= TOLERANCE:
            return position
        hessian = (basis.T * weighted) @ basis / (2 * squares.size)
        # it is singular where labels equal the mean
        direction = np.linalg.lstsq(hessian, -gradient, rcond=None)[0]
        position = position + _step(basis, squares, position, direction, float(gradient @ direction)) * direction
    raise ValueError(
        f"the gradient is {np.linalg.norm(gradient):.1e} after {STEPS} steps; are the labels all the mean?"
    )


def _step(basis: FloatArray, squares: FloatArray, position: FloatArray, direction: FloatArray, slope: float) -> float:
    """The first of 1, 1/2, 1/4 ... that lowers the objective by a small share of what its slope promises."""
    start, step = _objective(basis @ position, squares), 1.0
    while _objective(basis @ (position + step * direction), squares) > start + 1e-4 * step * slope + ROUNDING:
        step /= 2
    return step


def _objective(log_ratio: FloatArray, squares: FloatArray) -> float:
    """Mean of [log_ratio + squares exp(-log_ratio)] / 2; infinite far from any optimum."""
    with np.errstate(over="ignore"):
        return float(np.mean(log_ratio + squares * np.exp(-log_ratio)) / 2)


@njit(cache=True)
def garch_variance(log_return: FloatArray, omega: float, alpha: float, beta: float, horizon: int) -> FloatArray:
    """Variance of the sum of the next `horizon` zero-mean returns under a GARCH(1,1): (T,) to (T,).

        v_{t+1} = omega + alpha l_t^2 + beta v_t,   E_t v_{t+k+1} = omega + (alpha + beta) E_t v_{t+k}

    The recursion starts at the mean square of all returns up to each t < FEWEST, before which it is NaN. A NaN return
    leaves v as it is. Source: Bollerslev, Generalized autoregressive conditional heteroskedasticity, Journal of
    Econometrics 31(3), 1986.
    """
    out = np.full(log_return.size, np.nan)
    total, known, level = 0.0, 0, 0.0
    for t in range(log_return.size):
        square = log_return[t] * log_return[t]
        if np.isnan(square):
            continue
        known += 1
        total += square
        level = total / known if known <= FEWEST else omega + alpha * square + beta * level
        if known >= FEWEST:
            ahead, out[t] = level, 0.0
            for _ in range(horizon):
                out[t] += ahead
                ahead = omega + (alpha + beta) * ahead
    return out
