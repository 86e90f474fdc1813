"""Compare: Did the new checkpoint beat the old one, where, and on which prompts did it lose?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Compare", "Did the new checkpoint beat the old one, where, and on which prompts did it lose?")


if __name__ == "__main__":
    page()
