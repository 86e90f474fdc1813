"""Jobs and cost: What is running, what did it cost, what failed?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Jobs and cost", "What is running, what did it cost, what failed?")


if __name__ == "__main__":
    page()
