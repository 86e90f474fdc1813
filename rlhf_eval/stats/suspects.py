"""Which labels of a preference set a model of the others does not believe: R3M's perturbation, cross-fitted.

A linear reward is fitted to the pairs of other prompts with the loss that caps what one label may pull; the margin D of
a held-out pair says what these think of its label. Held out, because a model that has long seen a wrong label believes
it. R3M would explain away ``delta = max(0, log(1 / lam - 1) - D)``: over 0 only where the label has a probability under
``1 - lam``. Source: Bukharin et al., arXiv 2406.15568, equations 3.3 and 3.4; the cross-fitting is ours.

    margin = cross_fitted(x, prompts)
    perturbation(margin, lam=0.7) > 0      # the suspects, the largest first
"""

from __future__ import annotations

import numpy as np
import scipy

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, Ints


def perturbation(margin: Floats, lam: float) -> Floats:
    """What R3M adds to each margin to explain its label, (pairs,); raises UserError for a ``lam`` outside (0, 1)."""
    if not 0 < lam < 1:
        raise UserError(f"lam is {lam:g}; it caps a label's pull, and lies between 0 and 1")
    explained: Floats = np.maximum(0.0, -scipy.special.logit(lam) - margin)
    return explained


def cross_fitted(
    x: Floats, groups: Ints, *, lam: float = 0.5, ridge: float = 1e-2, folds: int = 5, seed: int = 0
) -> Floats:
    """The margin of each pair under a reward fitted to the pairs of other groups, (pairs,).

    ``x`` are the features of chosen minus rejected, (pairs, features); pairs of a prompt share a group and a fold. Raises
    UserError with fewer groups than folds.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise UserError(f"{len(names)} prompts cannot be cut into {folds} parts; labels of so few cannot be audited")
    part = np.random.default_rng(seed).permutation(np.arange(len(names)) % folds)[index]
    margin = np.empty(len(x))
    for fold in range(folds):
        aside = part == fold
        margin[aside] = x[aside] @ fitted(x[~aside], lam=lam, ridge=ridge)
    return margin


def fitted(x: Floats, *, lam: float, ridge: float) -> Floats:
    """The weights that minimise R3M's loss, the mean over pairs, with a ridge; (features,)."""
    tau = -scipy.special.logit(lam)

    def loss(w: Floats) -> tuple[float, Floats]:
        d = x @ w
        each = np.logaddexp(0, -np.maximum(d, tau)) + lam * np.maximum(0, tau - d)
        pull = np.minimum(scipy.special.expit(-d), lam)
        return float(each.mean() + ridge / 2 * (w @ w)), -(pull @ x) / len(x) + ridge * w

    found = scipy.optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    weights: Floats = found.x
    return weights
