"""How varied a set of answers is: distinct-n, its length-corrected form, self-BLEU, the Vendi score, mean cosine.

Distinct-n falls with length alone (.30 at 50 tokens, .16 at 200, for one and the same generator) and the Vendi score
grows with the number of answers: compare at equal token budgets and equal counts. Answers are sequences of tokens;
split text as the comparison at hand does, for the published numbers of CD-RLHF on whitespace.

Sources: Li et al. (arXiv 1510.03055) for distinct-n; Liu et al. (arXiv 2202.13587) for EAD; Zhu et al. (arXiv
1802.01886) for self-BLEU; Friedman and Dieng (arXiv 2210.02410) for Vendi; CD-RLHF (arXiv 2501.11463) for the product.

    from rlhf_eval.stats.diversity import distinct_n, self_bleu
    distinct_n([answer.split() for answer in answers], n=2)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats

Tokens = Sequence[str]


def distinct_n(answers: Sequence[Tokens], *, n: int) -> float:
    """Share of n-grams within answers that are unique in the whole set; 0 where no answer is n tokens long."""
    grams = [gram for answer in answers for gram in _ngrams(answer, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def distinct_product(answers: Sequence[Tokens], *, longest: int = 5) -> float:
    """CD-RLHF's Diversity: the product over n = 1..``longest`` of distinct-n on the answers joined into one text.

    N-grams straddle answers, as published; the published loop also drops each last n-gram, which is mended here.
    """
    joined = [token for answer in answers for token in answer]
    return math.prod(distinct_n([joined], n=n) for n in range(1, longest + 1))


def expectation_adjusted_distinct(answers: Sequence[Tokens], *, vocabulary: int, longest: int = 5) -> float:
    """EAD: unique n-grams over how many a uniform draw from the vocabulary would give, mean over n = 1..``longest``.

    ``N / (V (1 - ((V-1)/V)^C))`` for C n-grams of which N are unique; far less dependent on length than distinct-n.
    CD-RLHF uses V = 256 000 for every n. Raises UserError where no n-gram exists.
    """
    ratios = []
    for n in range(1, longest + 1):
        grams = [gram for answer in answers for gram in _ngrams(answer, n)]
        if grams:
            ratios.append(len(set(grams)) / (-vocabulary * math.expm1(len(grams) * math.log1p(-1 / vocabulary))))
    if not ratios:
        raise UserError("no answer has any token: diversity is not defined")
    return float(np.mean(ratios))


def self_bleu(answers: Sequence[Tokens], *, longest: int = 4, epsilon: float = 0.1) -> float:
    """Mean over answers of the BLEU against all others: 1 for identical answers, near 0 for unrelated ones.

    Uniform weights over n = 1..``longest``; ``epsilon`` stands in for a count of 0. Raises UserError below two answers.
    """
    if len(answers) < 2:
        raise UserError("self-BLEU compares answers with each other; it needs at least two")
    counts = [[Counter(_ngrams(answer, n)) for n in range(1, longest + 1)] for answer in answers]
    top = [_largest_two([c[n] for c in counts]) for n in range(longest)]
    lengths = np.array([len(answer) for answer in answers])
    return float(np.mean([_bleu(i, counts[i], top, lengths, epsilon) for i in range(len(answers))]))


def _bleu(
    i: int,
    own: list[Counter[tuple[str, ...]]],
    top: list[dict[tuple[str, ...], tuple[int, int]]],
    lengths: NDArray[np.int64],
    epsilon: float,
) -> float:
    """BLEU of answer i against the others; ``top`` has the two largest counts of each n-gram over all answers."""
    logs = []
    for grams, best in zip(own, top, strict=True):
        total = sum(grams.values())
        if total == 0:
            continue
        # The largest count among the others is the overall largest, unless this answer alone holds it.
        matched = sum(min(c, best[g][1] if best[g][0] == c else best[g][0]) for g, c in grams.items())
        logs.append(math.log((matched or epsilon) / total))
    if not logs:
        return 0.0
    others = np.delete(lengths, i)
    nearest = int(others[np.lexsort((others, np.abs(others - lengths[i])))[0]])
    brevity = 1.0 if lengths[i] >= nearest else math.exp(1 - nearest / lengths[i])
    return brevity * math.exp(sum(logs) / len(logs))


def _largest_two(counts: list[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int]]:
    top: dict[tuple[str, ...], tuple[int, int]] = {}
    for counter in counts:
        for gram, count in counter.items():
            first, second = top.get(gram, (0, 0))
            top[gram] = (count, first) if count > first else (first, max(second, count))
    return top


def vendi_score(similarity: ArrayLike) -> float:
    """Vendi score of a similarity matrix with ones on its diagonal: the effective number of different answers.

    ``exp(-sum l log l)`` over the eigenvalues l of K/n; n different answers give n, n equal ones 1. Raises UserError
    where the matrix is not square and symmetric.
    """
    k = np.asarray(similarity, dtype=np.float64)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not np.allclose(k, k.T):
        raise UserError(f"similarity must be a symmetric matrix (answers, answers), not of shape {k.shape}")
    return _effective_number(np.linalg.eigvalsh(k / len(k)))


def vendi_score_of_embeddings(embeddings: ArrayLike) -> float:
    """Vendi score of the cosine similarity of ``embeddings`` (answers, dimensions), in the smaller of the two spaces."""
    x = np.asarray(embeddings, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if x.ndim != 2 or (norms == 0).any():
        raise UserError("embeddings must have shape (answers, dimensions), and none may be all zeros")
    unit = x / norms
    gram: Floats = unit @ unit.T if len(x) <= x.shape[1] else unit.T @ unit
    return _effective_number(np.linalg.eigvalsh(gram / len(x)))


def mean_cosine(embeddings: ArrayLike) -> float:
    """Mean cosine between the pairs of ``embeddings`` (answers, dimensions): 1 for equal answers, low for varied ones.

    Raises UserError below two answers, or where an embedding is all zeros.
    """
    x = np.asarray(embeddings, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2 or (np.linalg.norm(x, axis=1) == 0).any():
        raise UserError("mean cosine needs at least two embeddings, none of them all zeros")
    total = (x / np.linalg.norm(x, axis=1, keepdims=True)).sum(axis=0)
    return float((total @ total - len(x)) / (len(x) * (len(x) - 1)))


def ngram_similarity(answers: Sequence[Tokens], *, n: int = 1) -> Floats:
    """Cosine similarity of n-gram counts, shape (answers, answers), for ``vendi_score`` where no embedding is at hand.

    It sees words, not meaning. An answer shorter than n tokens is like itself alone.
    """
    ids: dict[tuple[str, ...], int] = {}
    rows, columns, counts = [], [], []
    for row, answer in enumerate(answers):
        for gram, count in Counter(_ngrams(answer, n)).items():
            rows.append(row)
            columns.append(ids.setdefault(gram, len(ids)))
            counts.append(float(count))
    table = scipy.sparse.csr_matrix((counts, (rows, columns)), shape=(len(answers), max(len(ids), 1)))
    dots: Floats = (table @ table.T).toarray()
    norms = np.sqrt(np.diag(dots))
    similarity: Floats = dots / np.where(np.outer(norms, norms) == 0, 1, np.outer(norms, norms))
    np.fill_diagonal(similarity, 1.0)
    return similarity


def _ngrams(tokens: Tokens, n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def _effective_number(eigenvalues: NDArray[np.floating]) -> float:
    share = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(share * np.log(share)).sum()))
