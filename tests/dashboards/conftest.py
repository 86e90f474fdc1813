"""Stores in every state, the app in this process (AppTest), and the app in a browser."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from rlhf_eval.records import Completion, Judgment, Prompt, Usage
from rlhf_eval.store.runs import Store

HOME = Path(__file__).parents[2]
APP = HOME / "dashboards" / "shell" / "app.py"

HOSTILE = {
    "script": "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "image": "![beacon](http://198.51.100.7/beacon.png) [link](http://198.51.100.7/) <http://198.51.100.7/auto>\n\n[r]: http://198.51.100.7/r\n![x][r]",
    "markup": "</pre></div></main><style>body{display:none}</style><iframe src='http://198.51.100.7/'></iframe>",
    "control": "bell \x07 escape \x1b[31m nul-like \x01 override \u202egnp.exe\u202c hidden \u2066x\u2069",
    "rtl": "مرحبا بالعالم، هذا نص طويل من اليمين إلى اليسار. שלום עולם",
    "long": "very " * 200_000,
    "unbroken": "x" * 5_000,
    "maths": "$$\\href{http://198.51.100.7/}{x}$$ :material/home: :red[text] | a | b |",
}
"""Answers of a model that wants to do harm, by what they try."""


def _planted() -> ModuleType:
    """The module beside this file; by its path, because another room has one of the same name."""
    spec = spec_from_file_location("dashboards_planted", Path(__file__).with_name("planted.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def planted() -> ModuleType:
    """The makers of stores whose truth is known."""
    return _planted()


@pytest.fixture(scope="session")
def full(planted: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store in which every page has something to show; nobody writes to it."""
    return planted.full(tmp_path_factory.mktemp("full") / "store")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Open a page on a store, in this process; keywords are the URL's query."""
    from streamlit.components.v2 import manifest_scanner
    from streamlit.testing.v1 import AppTest

    # Every AppTest looks for components through all installed packages, which took as long as the page; we use none.
    monkeypatch.setattr(manifest_scanner, "scan_component_manifests", list)

    def opened(store: Path, page: str = "leaderboard", **query: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["app.py", "--store", str(store)])
        test = AppTest.from_file(str(APP), default_timeout=60)
        for key, value in query.items():
            test.query_params[key] = value
        return test.switch_page(f"../pages/{page}.py").run()

    return opened


@pytest.fixture(scope="session")
def hostile() -> Callable[[Store], None]:
    """What puts the evil model's run into a store."""
    return _hostile


def _hostile(store: Store) -> None:
    """A run of hostile answers to hostile prompts, judged in hostile words by a judge with a hostile name."""
    prompts, answers, verdicts = [], [], []
    judge, model = "evil/<b>judge</b>", "evil <script>alert(1)</script> ![m](http://198.51.100.7/m.png)"
    for name, text in HOSTILE.items():
        prompt = Prompt.of(f"{name}: {text[:3000]}", category="<i>evil</i>")
        sides = [Completion.of(prompt_id=prompt.id, model=m, text=f"{name} {text}") for m in (model, "tame")]
        prompts.append(prompt)
        answers += sides
        verdicts += [
            Judgment.of(
                prompt_id=prompt.id, completion_ids=(sides[0].id, sides[1].id), judge=judge, order=order,
                scores=(1.0, 0.0) if order == (0, 1) else (0.0, 1.0), rationale=text[:5000],
            )
            for order in ((0, 1), (1, 0))
        ]  # fmt: skip
    with store.begin("judge", {"judge": "evil"}, inputs={}, seed=0, versions={}) as run:
        for table, rows in (("prompts", prompts), ("completions", answers), ("judgments", verdicts)):
            for row in rows:
                run.append(table, row)
        run.finish("done", {"done": len(prompts), "total": len(prompts)}, Usage())


@pytest.fixture(scope="session")
def site(planted: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store]]:
    """The served app over a store of its own, in which labels may be written: its address and the store."""
    world = planted.full(tmp_path_factory.mktemp("site") / "store")
    _hostile(world.store)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    server = subprocess.Popen([*command, "--", "--store", str(world.store.path)], stdout=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/_stcore/health", server)
        yield f"http://127.0.0.1:{port}", world.store
    finally:
        server.terminate()
        server.wait(20)


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "the server ended at once"
        try:
            if urllib.request.urlopen(address, timeout=1).read() == b"ok":
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not answer in 30 seconds")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for a module: its driver keeps an event loop running, which other modules could not stand.

    Its profile is on the disk, where the app's scripts, several megabytes, are kept compiled.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium is installed")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--process-per-site"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=binary, args=arguments, reduced_motion="reduce",
            viewport={"width": 1440, "height": 1000},
        )  # fmt: skip
        yield browser
        browser.close()


MENU = {"exclude": [["[data-testid=stSidebarNav]"]]}
LISTS = ("list", "listitem")
"""Streamlit's own menu has lists that are none, which no page can mend: of these two rules alone it is left out."""
MILD = ("region", "hidden-content", "landmark-one-main", "empty-table-header")
"""Rules that take long and find nothing serious."""

GO = """path => new Promise(begun => {
  const app = document.querySelector('[data-testid=stApp]')
  new MutationObserver(begun).observe(app, {attributeFilter: ['data-test-script-state']})
  history.pushState({}, '', path)
  dispatchEvent(new PopStateEvent('popstate'))
  setTimeout(begun, 1000)  // a script may be over before its state is shown
})"""
COLOURED = """scheme => {
  const background = getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor
  const light = parseInt(background.slice(background.indexOf('(') + 1)) > 127
  return light === (scheme === 'light') && !document.getAnimations().some(one => one instanceof CSSTransition)
}"""


class Visitor:
    """A browser tab that notes what goes wrong and what would leave this machine."""

    def __init__(self, chromium: Any, base: str) -> None:
        self.base = base
        self.schemes = ["light", "dark"]
        self.page = chromium.new_page()
        self.errors: list[str] = []
        self.abroad: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.base, self.base.replace("http", "ws"), "data:", "blob:")):
            self.abroad.append(request.url)

    def open(self, path: str) -> Any:
        """Load a page of the app, in its frame, and wait until it is drawn."""
        self.page.goto(f"{self.base}/{path}")
        self.settle()
        self.page.locator("[data-testid=stSidebarNav]").wait_for()  # a deep link opens the page in its frame
        return self.page

    def turn(self, path: str) -> Any:
        """Go to another page as Back and Forward do: the app draws it without being loaded again, at a third of the work.

        A page that is open already is loaded again, because its widgets would keep what they hold.
        """
        if self.page.url == "about:blank" or urlsplit(self.page.url).path == f"/{path.partition('?')[0]}":
            return self.open(path)
        self.page.evaluate(GO, f"/{path}")
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until the script has ended and its last elements are there."""
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=60_000)
        self.page.locator("[data-testid=stMain] h1").first.wait_for(timeout=60_000)
        self.page.wait_for_function("!document.querySelector('[data-stale=true]')", timeout=60_000)

    def barriers(self) -> list[str]:
        """What axe finds serious in the page as it stands, in light and in dark; it begins with the colours that are on."""
        from axe_playwright_python.sync_playwright import Axe

        if self.page.evaluate("!window.axe"):
            self.page.evaluate(Axe().axe_script)
        self.page.wait_for_timeout(150)  # charts and tables draw themselves when the script has ended
        serious = []
        for scheme in self.schemes:
            self.page.emulate_media(color_scheme=scheme)
            self.page.wait_for_function(COLOURED, arg=scheme)
            if scheme == self.schemes[0]:
                found = self._violations(None, {"rules": {rule: {"enabled": False} for rule in (*LISTS, *MILD)}})
                found += self._violations(MENU, {"runOnly": list(LISTS)})
            else:
                found = self._violations(None, {"runOnly": ["color-contrast"]})  # nothing else changes with the colours
            serious += [
                f"{scheme}: {rule['id']}: {node['html'][:200]}"
                for rule in found
                if rule["impact"] in ("serious", "critical")
                for node in rule["nodes"]
            ]
        self.schemes.reverse()
        return serious

    def _violations(self, context: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
        run = "async ([context, options]) => (await axe.run(context || document, options)).violations"
        found: list[dict[str, Any]] = self.page.evaluate(run, [context, {"resultTypes": ["violations"], **options}])
        return found

    def check(self) -> None:
        """Nothing may have failed and nothing may have asked for another host."""
        assert not self.errors
        assert not self.abroad


@pytest.fixture(scope="module")
def tab(chromium: Any, site: tuple[str, Store]) -> Iterator[Visitor]:
    """The tab in which all that needs no other goes from page to page."""
    visit = Visitor(chromium, site[0])
    yield visit
    visit.page.close()


@pytest.fixture
def visitor(tab: Visitor) -> Iterator[Visitor]:
    """The tab, wherever the test before this one left it."""
    yield tab
    tab.check()


@pytest.fixture
def newcomer(chromium: Any, site: tuple[str, Store]) -> Iterator[Visitor]:
    """A tab that has loaded nothing."""
    visit = Visitor(chromium, site[0])
    yield visit
    visit.page.close()
    visit.check()
