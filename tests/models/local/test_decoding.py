"""Drawing tokens: the distribution, the nucleus, the trie, and random streams of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rlhf_eval.models.local.decoding import draw  # noqa: E402
from rlhf_eval.models.local.rows import Row, Task  # noqa: E402
from rlhf_eval.models.local.tries import trie_of  # noqa: E402
from rlhf_eval.records import fingerprint  # noqa: E402

N = 8_000


@pytest.fixture(scope="module")
def uniforms() -> torch.Tensor:
    """The first random number of each of N rows, as the decoder would use them."""
    task = Task(prompt=[1], keys=(), most=1)
    return torch.tensor([Row.of(task, fingerprint("model", "prompt", 7, k)).uniforms[0] for k in range(N)])


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.7), (0.7, 0.9)])
def test_draws_follow_the_distribution(uniforms, temperature, top_p):
    from scipy.stats import chisquare

    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.1, -0.4, 0.9, 1.9], dtype=torch.float64)
    chances = torch.softmax(logits / temperature, 0).numpy()
    by_size = np.argsort(-chances)
    kept = by_size[: int(np.searchsorted(np.cumsum(chances[by_size]), top_p) + 1)]
    expected = np.zeros(8)
    expected[kept] = chances[kept] / chances[kept].sum()
    rows = torch.full((N,), 1.0, dtype=torch.float64)
    drawn = draw(logits.repeat(N, 1), rows * temperature, rows * top_p, uniforms)
    counts = np.bincount(drawn.numpy(), minlength=8)
    assert counts[expected == 0].sum() == 0
    assert chisquare(counts[expected > 0], N * expected[expected > 0]).pvalue > 0.001


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-30, 30), min_size=2, max_size=9),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    st.sampled_from([0.1, 0.5, 0.999, 1.0]),
)
def test_a_draw_is_a_possible_token_whatever_its_company(logits, uniform, temperature, top_p):
    alone = torch.tensor([[*logits, -torch.inf]], dtype=torch.float64)
    settings_ = [torch.tensor([x], dtype=torch.float64) for x in (temperature, top_p, uniform)]
    token = int(draw(alone, *settings_))
    assert token < len(logits)
    if temperature == 0:
        assert token == int(alone.argmax())
    mates = torch.cat([alone.flip(1), alone, torch.zeros_like(alone)])
    among = [
        torch.tensor([a, float(x), b], dtype=torch.float64)
        for x, a, b in zip(settings_, (0, 1, 0.5), (2, 0.2, 0.1), strict=True)
    ]
    assert int(draw(mates, *among)[1]) == token


def test_streams_differ_and_repeat():
    task = Task(prompt=[1], keys=(), most=50)
    first, again, other = (Row.of(task, fingerprint(k)).uniforms for k in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    shorter = Row.of(Task(prompt=[1], keys=(), most=20), fingerprint(1)).uniforms
    assert shorter.tolist() == first[:20].tolist()


def test_a_row_ends_where_its_choice_is_complete():
    trie = trie_of({"ab": [5, 6], "abc": [5, 6, 7], "d": [8]}, {})
    row = Row.of(Task(prompt=[1], keys=(), most=9, trie=trie), fingerprint(1))
    for token in (5, 6):
        row.push(token, frozenset({2}), lambda ids, stop: False)
        assert not row.drawn.finish
    row.push(2, frozenset({2}), lambda ids, stop: False)
    assert (row.drawn.finish, row.drawn.ids, row.drawn.steps) == ("stop", [5, 6], 3)
    other = Row.of(Task(prompt=[1], keys=(), most=9, trie=trie), fingerprint(1))
    other.push(8, frozenset({2}), lambda ids, stop: False)
    assert (other.drawn.finish, other.drawn.ids) == ("stop", [8])
