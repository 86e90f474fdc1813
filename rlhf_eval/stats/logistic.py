"""Logistic regression on soft labels: Newton's method, and the L1-penalised fit that AlpacaEval publishes.

from rlhf_eval.stats.logistic import fit_logistic
fit_logistic(design, win_share)
"""

from __future__ import annotations

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats


def fit_logistic(
    design: Floats, y: Floats, *, weights: Floats | None = None, ridge: Floats | float = 0.0, tolerance: float = 1e-10
) -> Floats | None:
    """Coefficients that minimise ``sum w [log(1 + e^eta) - y eta] + sum ridge_j c_j^2 / 2``, where ``eta = design @ c``.

    ``design`` has shape (rows, columns), ``y`` in [0, 1] and ``weights`` shape (rows,). None where there is no
    minimum: a combination of columns separates the labels, or the columns depend on each other.
    """
    w = np.ones(len(y)) if weights is None else weights
    coefficients = np.zeros(design.shape[1])
    value = logistic_loss(design, y, w, coefficients)
    for _ in range(100):
        gradient, hessian = _derivatives(design, y, w, coefficients)
        gradient = gradient + ridge * coefficients
        hessian[np.diag_indices_from(hessian)] += ridge
        if np.linalg.eigvalsh(hessian)[0] < 1e-13 * w.sum():
            return None
        step = np.linalg.solve(hessian, -gradient)
        size, previous = 1.0, value
        while size > 1e-8:
            moved = coefficients + size * step
            value = logistic_loss(design, y, w, moved) + 0.5 * float((ridge * moved**2).sum())
            if value <= previous + 1e-12 * abs(previous):
                break
            size /= 2
        coefficients = coefficients + size * step
        if np.abs(size * step).max() < tolerance * max(1.0, np.abs(coefficients).max()):
            return coefficients
    return None


def fit_logistic_draws(design: Floats, y: Floats, weights: Floats, *, ridge: float = 0.0) -> Floats:
    """The fits of many weightings of the same rows at once: ``weights`` (draws, rows) give coefficients (draws, columns).

    Newton's method from the unweighted fit; the first column, the intercept, is not penalised. A draw that has no
    minimum is NaN.
    """
    start = fit_logistic(design, y)
    k = design.shape[1]
    found = np.tile(start if start is not None else np.zeros(k), (len(weights), 1))
    products = (design[:, :, None] * design[:, None, :]).reshape(len(y), k * k)
    penalty = np.full(k, ridge)
    penalty[0] = 0.0
    lost, done = np.zeros((2, len(weights)), dtype=np.bool_)
    for _ in range(50):
        p = sigmoid(found @ design.T)
        gradient = (weights * (p - y)) @ design + penalty * found
        hessian = ((weights * p * (1 - p)) @ products).reshape(-1, k, k) + np.diag(penalty)
        lost |= np.linalg.eigvalsh(hessian)[:, 0] < 1e-13 * weights.sum(axis=1)
        hessian[lost] = np.eye(k)
        step = np.linalg.solve(hessian, -gradient[..., None])[..., 0]
        found = found + np.where(lost[:, None], 0.0, np.clip(step, -5, 5))
        done = np.abs(step).max(axis=1) < 1e-9 * np.maximum(1.0, np.abs(found).max(axis=1))
        if (done | lost).all():
            break
    return np.where((done & ~lost)[:, None], found, np.nan)


def fit_logistic_l1(
    design: Floats, y: Floats, *, c: float, weights: Floats | None = None, start: Floats | None = None
) -> Floats:
    """Coefficients that minimise ``sum |theta| + c * sum w [log(1 + e^eta) - y eta]``, exactly, for a few columns.

    Proximal Newton: each step minimises the quadratic model with its L1 term by coordinate descent. Raises UserError
    where it does not converge.
    """
    w = c * (np.ones(len(y)) if weights is None else weights)
    theta = np.zeros(design.shape[1]) if start is None else start.copy()

    def objective(at: Floats) -> float:
        return float(np.abs(at).sum()) + logistic_loss(design, y, w, at)

    value = objective(theta)
    for _ in range(200):
        gradient, hessian = _derivatives(design, y, w, theta)
        step = _lasso_step(theta, gradient, hessian) - theta
        size = 1.0
        while objective(theta + size * step) > value + 1e-13 * abs(value) and size > 1e-8:
            size /= 2
        theta = theta + size * step
        value = objective(theta)
        if np.abs(step).max() < 1e-10 * max(1.0, np.abs(theta).max()):
            return theta
    raise UserError("the L1-penalised logistic fit did not converge: the columns nearly depend on each other")


def logistic_loss(design: Floats, y: Floats, weights: Floats, coefficients: Floats) -> float:
    """``sum w [log(1 + e^eta) - y eta]``."""
    eta = design @ coefficients
    return float(weights @ (np.logaddexp(0, eta) - y * eta))


def _derivatives(design: Floats, y: Floats, weights: Floats, coefficients: Floats) -> tuple[Floats, Floats]:
    p = sigmoid(design @ coefficients)
    gradient: Floats = design.T @ (weights * (p - y))
    hessian: Floats = design.T @ (design * (weights * p * (1 - p))[:, None])
    return gradient, hessian


def _lasso_step(theta: Floats, gradient: Floats, hessian: Floats) -> Floats:
    """The minimiser of ``g'(x - theta) + (x - theta)'H(x - theta)/2 + sum |x|``, by coordinate descent."""
    x = theta.copy()
    diagonal = np.maximum(np.diag(hessian), 1e-12)
    for _ in range(10_000):
        before = x.copy()
        for j in range(len(x)):
            free = diagonal[j] * x[j] - gradient[j] - hessian[j] @ (x - theta)
            x[j] = np.sign(free) * max(abs(free) - 1, 0) / diagonal[j]
        if np.abs(x - before).max() < 1e-13 * max(1.0, np.abs(x).max()):
            break
    return x


def sigmoid(z: Floats) -> Floats:
    """The logistic function, without overflow."""
    return np.exp(-np.logaddexp(0, -z))
