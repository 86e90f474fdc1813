"""CD-RLHF where the room for variety is known: reward and distinct bigrams with the bonus and with its placebos.

    python tests/bench/curiosity.py --seeds 5

The toy of a vocabulary of 32: a reward of 2 for answers of 12 tokens out of a good dozen, so that 12^12 answers are the
best. A recurrent policy that was fitted to a Markov chain learns it by PPO; the bonus is the product's, on the hidden
states of the policy as it began. All runs are one batch of weights. Differences are paired by seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlhf_eval.stats.diversity import distinct_n
from rlhf_eval.stats.intervals import mean_interval
from trainers.advantages import gae, shaped_rewards, whitened
from trainers.curiosity import Curiosity, Settings

VOCABULARY, GOOD, LENGTH, PROMPTS, WIDTH = 32, 12, 12, 8, 48
STEPS, BATCH, EPOCHS, KL = 110, 64, 2, 0.02
ARMS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"eta": 0.0},
    "curious .02": {"eta": 0.02},
    "curious .04": {"eta": 0.04},
    "ungated .04": {"eta": 0.04, "top_k": 0},
    "constant .02": {"eta": 0.02, "kind": "constant"},
    "noise .04": {"eta": 0.04, "kind": "noise"},
}


class Policies(torch.nn.Module):
    """Gated recurrent policies, one a run, with a value beside the logits; all tensors begin with the run."""

    def __init__(self, seeds: list[int]) -> None:
        super().__init__()

        def drawn(*shape: int) -> torch.nn.Parameter:
            each = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            return torch.nn.Parameter(torch.stack(each) / shape[-2] ** 0.5)

        self.start, self.embedding = drawn(PROMPTS, WIDTH), drawn(VOCABULARY, WIDTH)
        self.inner, self.outer = drawn(WIDTH, 3 * WIDTH), drawn(WIDTH, 3 * WIDTH)
        self.out = drawn(WIDTH, VOCABULARY + 1)

    def step(self, token: Tensor, state: Tensor) -> Tensor:
        """The next state, (runs, batch, width)."""
        seen, kept = picked(self.embedding, token) @ self.inner, state @ self.outer
        gates = torch.sigmoid(seen[..., : 2 * WIDTH] + kept[..., : 2 * WIDTH])
        reset, keep = gates.chunk(2, -1)
        fresh = torch.tanh(seen[..., 2 * WIDTH :] + reset * kept[..., 2 * WIDTH :])
        return (1 - keep) * fresh + keep * state

    def forward(self, prompt: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (runs, batch, length, vocabulary), values (runs, batch, length), states (..., length + 1)."""
        states = [picked(self.start, prompt)]
        for t in range(tokens.shape[-1]):
            states.append(self.step(tokens[..., t], states[-1]))
        told = torch.stack(states[:-1], 2).flatten(1, 2) @ self.out
        told = told.unflatten(1, tokens.shape[1:])
        return told[..., :-1].log_softmax(-1), told[..., -1], torch.stack(states, 2)

    @torch.no_grad()
    def sample(self, prompt: Tensor, rng: torch.Generator) -> Tensor:
        """Tokens, (runs, batch, length)."""
        state, found = picked(self.start, prompt), []
        for _ in range(LENGTH):
            chance = (state @ self.out)[..., :-1].softmax(-1)
            found.append(torch.multinomial(chance.flatten(0, 1), 1, generator=rng).view(prompt.shape))
            state = self.step(found[-1], state)
        return torch.stack(found, -1)


def picked(table: Tensor, index: Tensor) -> Tensor:
    """Rows of each run's table, (runs, batch, width)."""
    return table.gather(1, index[..., None].expand(*index.shape, table.shape[-1]))


def rewards(tokens: Tensor) -> Tensor:
    """From -2 to 2: how many tokens are of the good dozen."""
    return 4 * ((tokens < GOOD).float().mean(-1) - 0.5)


def fitted(policies: Policies, rng: torch.Generator) -> None:
    """Teach all the same Markov chain: what the policy is before reinforcement."""
    chain = (2 * torch.randn(VOCABULARY, VOCABULARY, generator=rng)).softmax(-1)
    optimizer = torch.optim.Adam(policies.parameters(), lr=5e-3)
    for _ in range(200):
        tokens = torch.randint(VOCABULARY, (BATCH, 1), generator=rng)
        for _ in range(LENGTH - 1):
            tokens = torch.cat([tokens, torch.multinomial(chain[tokens[:, -1]], 1, generator=rng)], 1)
        every = tokens.expand(len(policies.start), -1, -1)
        prompt = torch.randint(PROMPTS, (BATCH,), generator=rng).expand(len(policies.start), -1)
        loss = -policies(prompt, every)[0].gather(-1, every[..., None]).mean((1, 2, 3)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def trained(settings: list[Settings], seeds: list[int], learning_rate: float) -> Policies:
    """PPO of every run at once."""
    policies, reference = Policies(seeds), Policies(seeds)
    rng = torch.Generator().manual_seed(7)
    fitted(policies, rng)
    reference.load_state_dict(policies.state_dict())
    bonuses = [
        Curiosity(hidden=WIDTH, embedding=WIDTH, settings=one, seed=seed)
        for one, seed in zip(settings, seeds, strict=True)
    ]
    optimizer = torch.optim.Adam(policies.parameters(), lr=learning_rate)
    mask = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    for _ in range(STEPS):
        prompt = torch.arange(BATCH).remainder(PROMPTS).expand(len(seeds), -1)
        tokens = policies.sample(prompt, rng)
        with torch.no_grad():
            logps, values, _ = policies(prompt, tokens)
            told, _, states = reference(prompt, tokens)
            own = logps.gather(-1, tokens[..., None])
            ranks = (logps > own).sum(-1)
            penalties = KL * (own - told.gather(-1, tokens[..., None])).squeeze(-1)
            actions = picked(policies.embedding, tokens.flatten(1)).unflatten(1, tokens.shape[1:])
        advantages, returns = [], []
        for run, curiosity in enumerate(bonuses):
            shaped = shaped_rewards(rewards(tokens[run]), penalties[run], mask)
            if curiosity.settings.eta:
                before, after = states[run, :, :-1].flatten(0, 1), states[run, :, 1:].flatten(0, 1)
                shaped = shaped + curiosity.bonus(before, after, actions[run].flatten(0, 1), ranks[run], mask)[0]
            found, wanted = gae(shaped, values[run], mask, gamma=1.0, lam=0.95)
            advantages.append(whitened(found, mask))
            returns.append(wanted)
        advantage, target = torch.stack(advantages), torch.stack(returns)
        for _ in range(EPOCHS):
            now, value, _ = policies(prompt, tokens)
            ratio = (now.gather(-1, tokens[..., None]) - own).squeeze(-1).exp()
            clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            loss = (-clipped + 0.5 * (value - target) ** 2).mean((1, 2)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return policies


def measured(policies: Policies) -> tuple[list[float], list[float]]:
    """Mean reward and distinct bigrams of ten answers a prompt, run by run."""
    prompt = torch.arange(PROMPTS).repeat_interleave(10).expand(len(policies.start), -1)
    tokens = policies.sample(prompt, torch.Generator().manual_seed(8))
    variety = [
        sum(
            distinct_n([[str(t) for t in row] for row in run[10 * k : 10 * (k + 1)].tolist()], n=2)
            for k in range(PROMPTS)
        )
        / PROMPTS
        for run in tokens
    ]
    return rewards(tokens).mean(-1).tolist(), variety


def main() -> None:
    """Train every arm with every seed, and print what it came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of the policies")
    parser.add_argument("--predictor-rate", type=float, default=1e-3, help="of what the bonus is the error of")
    parser.add_argument("--arms", nargs="+", default=[*ARMS], choices=ARMS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    arms = dict.fromkeys(["plain", *options.arms])
    wanted = [(arm, seed) for arm in arms for seed in range(options.seeds)]
    settings = [Settings(learning_rate=options.predictor_rate, **ARMS[arm]) for arm, _ in wanted]
    reward, variety = measured(trained(settings, [seed for _, seed in wanted], options.learning_rate))
    print(f"{len(wanted)} runs in {time.perf_counter() - started:.0f} s; best reward 2")
    for number, arm in enumerate(arms):
        rows = slice(number * options.seeds, (number + 1) * options.seeds)
        parts = []
        for name, values in (("reward", reward), ("distinct-2", variety)):
            mean = mean_interval(values[rows])
            gap = mean_interval([a - b for a, b in zip(values[rows], values[: options.seeds], strict=True)])
            parts.append(f"{name} {mean.value:.3f} ({gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}])")
        print(f"{arm:14} {'  '.join(parts)}")


if __name__ == "__main__":
    main()
