"""``python -m rlhf_eval``: the same as ``rlhf-eval``."""

from rlhf_eval.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
