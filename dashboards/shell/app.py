"""The dashboard: eleven pages over one store, in four groups.

    rlhf-eval dashboard

Streamlit runs this file; the settings in ``.streamlit`` beside it keep it on this machine and quiet. It has a folder of its
own, because Streamlit takes a folder ``pages`` beside its entry for an app of another kind, and puts the entry's folder
first among the places where modules are looked for.
"""

from __future__ import annotations

import streamlit as st

from dashboards import show

PAGES = {
    "Results": {
        "leaderboard": "Leaderboard",
        "compare": "Compare",
        "head_to_head": "Head-to-head",
        "examples": "Examples",
    },
    "Judges": {"judge_quality": "Judge quality", "reward_models": "Reward models"},
    "Data": {"preference_sets": "Preference sets", "label": "Label"},
    "Runs": {"training": "Training", "studies": "Studies", "jobs": "Jobs and cost"},
}
"""Group to the pages in it: file in ``pages/`` and part of the URL, to title. The first is home."""
HIDDEN = {"lineage": "Lineage"}
"""Pages that are not in the menu: every run and every row of a leaderboard leads there."""
HOME = "leaderboard"


def main() -> None:
    """Draw the page that the URL names."""
    # An icon named instead of a file would be fetched from a font server.
    st.set_page_config(page_title="rlhf-eval", page_icon=str(show.HOME / "icon.svg"), layout="wide")
    pages = {
        group: [
            st.Page(
                show.HOME / "pages" / f"{name}.py", title=shown, url_path="home" if name == HOME else name,
                default=name == HOME,
            )
            for name, shown in files.items()
        ]
        for group, files in PAGES.items()
    }  # fmt: skip
    # A default page is served at / alone; under its own name, which people write, it would not be found.
    hidden = [
        st.Page(show.HOME / "pages" / f"{name}.py", title=shown, url_path=name, visibility="hidden")
        for name, shown in {**HIDDEN, HOME: PAGES["Results"][HOME]}.items()
    ]
    page = st.navigation({**pages, "Runs": [*pages["Runs"], *hidden]})
    with st.sidebar:
        st.caption(f"store `{show.opened().store.path}`")
    show.frame(page.title, page.run)


if __name__ == "__main__":
    main()
