"""The console in a headless Chromium: a real service, simulated hubs, a book with some history.

Pictures of each page at two widths go to the test's folder: somebody should look at them when a page changes.
"""

import importlib.util
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from deploy.fleet.simulated_hub import SimulatedHub
from deploy.headend import console_parts
from deploy.headend.control_point import ControlPoint
from deploy.waiting import wait_for
from hub.wire.keys.operators import Operators
from hub.wire.uplink.envelope import FileSigner, kid_of
from tests.deploy.headend.test_service import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,  # a minute; starts a browser
    pytest.mark.skipif(
        CHROMIUM is None or importlib.util.find_spec("playwright") is None,
        reason="Chromium or Playwright is not installed",
    ),
]
OLD = "OLD-1"
HUBS = 6  # whose meters are heard: enough for a sum
HOSTILE = "<script>window.stolen=1</script><img src=x onerror='window.stolen=1'>"
WIDTHS = (390, 1280)
_HOUR_S = 3600


class History:
    """A hub that was heard for hours before the service starts; what it asked of it and what it answered."""

    def __init__(self, site: Site, operator: ec.EllipticCurvePrivateKey, operators: Operators) -> None:
        cert_file, key_file = site.authority.issue(OLD, file_name="old")
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.t = time.time() - 5 * _HOUR_S
        signer = FileSigner(key, kid_of(certificate))
        self.hub = SimulatedHub(OLD, signer, operators, self.t, interval_s=60.0, pack_s=300.0)
        self.point = ControlPoint(site.place, "op", FileSigner(operator, b""))
        self.point.enrol([certificate.public_bytes(Encoding.DER)], "test")
        self._hear(self.hub.started(self.t))
        self._until(time.time() - 3 * _HOUR_S)
        self._order("limit", {"watts": 400, "duration": 5400})
        self._until(time.time() - 600)
        self._rollout()
        for event, fields in (
            ("adapter.alarm", {"client": "boiler", "text": HOSTILE}), ("meter.lost", {"reason": HOSTILE}),
            ("limit.opted_out", {"client": "wallbox"}), ("store.gap", {"what": HOSTILE, "kept": 5, "dropped": 900}),
            ("adapter.joined", {"client": "a" * 60, "link": "b" * 200}),
        ):  # fmt: skip
            self._hear([self.hub.tell(event, fields, self.t)])
        state = {"state": "online", "version": HOSTILE[:64], "kid": "", "epoch": 1, "boot": 3, "t": int(self.t * 1000)}
        self.point.take(f"meters/{OLD}/state", json.dumps(state).encode(), int(self.t * 1000))
        self.point.commit()
        self.point.close()

    def _hear(self, messages: list) -> None:  # type: ignore[type-arg]
        for message in messages:
            self.point.take(message.topic, message.payload, int(self.t * 1000))
        self.point.commit()

    def _until(self, t: float) -> None:
        while self.t < t:
            self.t = max(self.t + 1, min(self.hub.deadline, t))
            self._hear(self.hub.due(self.t))

    def _carry(self, sends: list) -> None:  # type: ignore[type-arg]
        self.point.commit()
        for send in sends:
            if send.topic in self.hub.filters():
                self._hear(self.hub.take(send.topic, send.message, self.t))

    def _order(self, op: str, args: dict[str, object]) -> None:
        self.point.book.begin()
        self._carry(self.point.orders.give(op, args, {"hub": OLD}, 300, "desk", int(self.t))[1])

    def _rollout(self) -> None:
        self.point.book.begin()
        args = {"set": {"hub.groups": ["north"]}}
        self.point.rollouts.begin("config", args, {"hub": OLD}, "desk", int(self.t), wave_hubs=1, success_share=1.0,
                                  error_share=0.1, valid_s=60)  # fmt: skip
        for _ in range(3):
            self.t += 1
            self._carry(self.point.due(self.t, int(self.t)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    console_parts.fetch()
    site = Site(tmp_path_factory.mktemp("console"), before=History, hubs=HUBS)
    try:
        yield site
    finally:
        site.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Desk:
    """A person at the console, in a window of `width`."""

    def __init__(self, browser: "Browser", site: Site, width: int, client: str = "desk") -> None:
        self.site, self.width = site, width
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900})
        self.errors: list[str] = []
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{site.port}/")
        self.sign_in(client)

    def sign_in(self, client: str) -> None:
        """By keyboard alone."""
        self.page.wait_for_selector("input[name=client_id]:focus")
        self.page.keyboard.type(client)
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(self.site.secrets[client])
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("nav a[aria-current=page]")

    def go(self, place: str, ready: str) -> None:
        self.page.evaluate("place => { location.hash = place; }", place)
        self.page.wait_for_selector(ready)


def overflow(page: "Page") -> int:
    found: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return found


# What a person may act on and sees, by the name that a screen reader gives it.
_NAME = '[e.tagName, (e.getAttribute("aria-label") || (e.labels?.[0]?.textContent ?? "") || e.textContent).trim()]'
_CONTROLS = f"""() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter(e => e.checkVisibility({{visibilityProperty: true}}) && !e.disabled).map(e => {_NAME})"""
_AT = f"() => {{ const e = document.activeElement; return !e || e === document.body ? null : {_NAME}; }}"


def reached_by_tab(page: "Page", most: int) -> list[list[str]]:
    page.evaluate("() => { document.activeElement?.blur(); window.scrollTo(0, 0); }")
    page.keyboard.press("Control+Home")
    found = []
    for _ in range(most):
        page.keyboard.press("Tab")
        at = page.evaluate(_AT)
        if at is not None:
            found.append(at)
    return found


PAGES = {
    "fleet": ("#/fleet", "tbody a"),
    "alarms": ("#/alarms", "tbody a"),
    "orders": ("#/orders", "tbody a"),
    "rollouts": ("#/rollouts", "tbody a"),
    "hub": (f"#/hubs/{OLD}", ".chart canvas"),
    "certificates": ("#/certificates", "tbody a"),
    "audit": ("#/audit", "tbody td"),
}


@pytest.mark.parametrize("width", WIDTHS)
def test_each_page_fits_its_window_and_is_used_by_keyboard(
    site: Site, browser: "Browser", tmp_path: Path, width: int
) -> None:
    desk = Desk(browser, site, width)
    page = desk.page
    with site.client("desk") as api:
        wait_for("all hubs", lambda: api.get("/v1/fleet").json()["online"] == HUBS + 1)
        order = api.get("/v1/orders").json()[-1]["id"]
        rollout = api.get("/v1/rollouts").json()[0]["id"]
    more = {"order": (f"#/orders/{order}", ".chart canvas"), "rollout": (f"#/rollouts/{rollout}", "tbody a")}
    for name, (place, ready) in (PAGES | more).items():
        desk.go(place, ready)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=tmp_path / f"{name}-{width}-{scheme}.png", full_page=True)
        assert overflow(page) <= 0, f"{name} is wider than {width}"
        controls = page.evaluate(_CONTROLS)
        assert all(label for _, label in controls), f"{name}: a control without a name: {controls}"
        reached = reached_by_tab(page, len(controls) + 30)
        missed = [control for control in controls if control not in reached]
        assert not missed, f"{name}: not reached by Tab: {missed}"
        assert page.locator("h2").first.inner_text().strip(), name
    assert page.evaluate("window.stolen") is None, "what a hub wrote stays text"
    assert desk.errors == []
    page.close()


def test_hostile_text_of_a_hub_stays_text(site: Site, browser: "Browser") -> None:
    desk = Desk(browser, site, 1280)
    for place, ready in ((f"#/hubs/{OLD}", ".events td"), ("#/alarms", "tbody td"), ("#/fleet", "tbody td")):
        desk.go(place, ready)
        desk.page.wait_for_selector("text=<script>window.stolen=1")
        assert desk.page.locator("main script, main img").count() == 0
    assert desk.page.evaluate("window.stolen") is None and desk.errors == []
    desk.page.close()


def test_a_limit_is_sent_approved_and_seen_spreading(site: Site, browser: "Browser", tmp_path: Path) -> None:
    desk = Desk(browser, site, 1280)
    page = desk.page
    desk.go("#/orders", "form.order")
    page.get_by_label("Watts a household").fill("250")
    page.get_by_label("Minutes").fill("1")
    page.get_by_role("button", name="Limit").click()
    page.get_by_role("button", name="Approve").click()
    page.wait_for_selector(".fault:has-text('approve is needed')")
    place = page.evaluate("location.hash")
    desk.errors.clear()  # the browser writes down each refusal
    page.get_by_role("button", name="Sign out").click()
    desk.sign_in("second")
    desk.go(place, "button:has-text('Approve')")
    page.get_by_role("button", name="Approve").click()
    page.wait_for_selector(f".legend li:has-text('{HUBS} applied')", timeout=30_000)
    chart = page.get_by_role("group", name="How the order reached its hubs")
    page.wait_for_selector(f".legend.lines :text('hubs that obey (of {HUBS + 1})')", timeout=30_000)
    assert page.get_by_role("button", name="Approve").count() == 0
    # Second by second: watts of their households, and what they were asked to keep to.
    page.wait_for_selector(f".legend.lines :text('watts of {HUBS} households')", timeout=30_000)
    page.wait_for_selector(".legend.lines :text('watts asked for, at most')")
    page.wait_for_selector(".watts:has-text('1,500 W together')")
    page.get_by_text("The same as a table").click()
    page.wait_for_function("() => document.querySelectorAll('.chart tbody tr').length >= 5", timeout=30_000)
    first, last = (page.locator(".chart tbody tr").nth(at).inner_text() for at in (0, -1))
    assert "1,500 W" in first and f"\t{HUBS}\t" in last, (first, last)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=tmp_path / f"spread-{width}-{scheme}.png", full_page=True)
        assert overflow(page) <= 0, width
    # The arrow keys walk through it; what holds there is said, and stays while the next second comes.
    chart.focus()
    page.keyboard.press("End")
    page.wait_for_selector(f".chart output:has-text('{HUBS} hubs')")
    assert f"hubs that obey (of {HUBS + 1}): {HUBS} hubs" in page.locator(".chart [aria-live]").inner_text()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f".chart output:has-text('{HUBS} hubs')")
    with page.expect_response(lambda answer: "/spread?" in answer.url, timeout=20_000):
        pass
    assert page.locator(".chart output", has_text=f"{HUBS} hubs").count() == 1, (
        "the last second goes on, who is at it stays"
    )
    page.keyboard.press("Home")
    page.wait_for_selector(".chart .lines .facts:has-text('-')")  # what they drew before it was sent
    with page.expect_response(lambda answer: "/spread?" in answer.url, timeout=20_000):
        pass
    assert page.evaluate("document.activeElement.classList.contains('plot')"), "the focus outlives the next look"
    assert page.locator(".chart .lines .facts").inner_text().startswith("-"), "and the place in the chart"
    assert page.locator(".chart details[open]").count() == 1
    page.mouse.move(0, 0)
    for width in (1280, 700, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("() => document.querySelector('.uplot').clientWidth <= innerWidth")
        assert page.locator(".chart .lines .facts").inner_text().startswith("-"), width
    hides = page.get_by_role("button", name="watts asked for, at most")
    hides.press("Enter")
    page.wait_for_selector(".chart button[aria-pressed=false]")
    assert desk.errors == []
    page.close()


def test_a_households_day_is_drawn_with_its_limit_and_stands_in_the_audit_log(site: Site, browser: "Browser") -> None:
    desk = Desk(browser, site, 390)
    page = desk.page
    desk.go(f"#/hubs/{OLD}", ".chart canvas")
    assert page.title().startswith(OLD)
    assert page.locator(".chart canvas").evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    )
    assert re.search("Limits: 400 W from .* to .*[.]", page.locator(".chart figcaption").inner_text())
    page.get_by_text("The same as a table").press("Enter")
    held = [row for row in page.locator(".chart tbody tr").all_inner_texts() if "400 W" in row.splitlines()[-1]]
    assert 1 <= len(held) <= 3, "an hour and a half"
    chart = page.get_by_role("group", name=f"Load of {OLD}")
    chart.focus()
    page.keyboard.press("End")
    page.wait_for_selector(".chart output:has-text(' W')")
    with site.client("desk") as api:
        looks = [row["detail"] for row in api.get("/v1/audit").json() if row["action"] == "day"]
        day = api.get(f"/v1/hubs/{OLD}/day", params={"day": looks[0].split()[1]}).json()
    assert looks and looks[0].startswith(OLD)
    assert [line["client"] for line in day["lines"]] == ["meter"] and [limit["limit_w"] for limit in day["limits"]] == [
        400
    ]
    page.get_by_label("Day").fill("2020-01-01")
    page.get_by_label("Day").press("Enter")
    page.wait_for_selector("text=No readings on this day.")
    assert desk.errors == []
    page.close()


def test_the_browser_itself_lets_no_text_become_html(site: Site, browser: "Browser") -> None:
    desk = Desk(browser, site, 1280)
    said = desk.page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }"
    )
    assert said == "TypeError"
    desk.errors.clear()
    desk.page.close()


def test_the_fleet_is_filtered_and_told_of_as_it_speaks(site: Site, browser: "Browser") -> None:
    desk = Desk(browser, site, 1280)
    page = desk.page
    desk.go("#/fleet", f"tbody tr:nth-child({HUBS + 1})")
    page.get_by_label("Name").fill("SIM-")
    page.get_by_label("State").select_option("online")
    page.get_by_role("button", name="Show").press("Enter")
    page.wait_for_function("hubs => document.querySelectorAll('tbody tr').length === hubs", arg=HUBS)
    page.get_by_label("Group").fill("nobody's")
    page.keyboard.press("Enter")
    page.wait_for_selector("td:has-text('No hub is like that.')")
    with site.client("desk") as api:
        order = {"op": "limit", "args": {"watts": 900, "duration": 1}, "target": {"hub": "SIM-2"}}
        assert api.post("/v1/orders", json=order).status_code == 201
    page.wait_for_selector(".news li:has-text('SIM-2')", timeout=20_000)
    assert desk.errors == []
    page.close()


def test_a_service_that_is_away_is_said_and_a_token_that_it_forgot_asks_for_the_secret(
    site: Site, browser: "Browser"
) -> None:
    desk = Desk(browser, site, 390)
    page = desk.page
    desk.go("#/alarms", "tbody a")
    page.context.set_offline(True)
    page.wait_for_selector("#who:has-text('The service does not answer.')", timeout=20_000)
    assert page.locator("tbody a").count() > 0, "what was seen last stays"
    page.context.set_offline(False)
    page.wait_for_selector("#who:has-text('desk')", timeout=20_000)
    page.evaluate("() => sessionStorage.setItem('token', 'forgotten')")
    page.reload()
    desk.sign_in("desk")
    page.wait_for_selector("nav a[aria-current=page]:has-text('Alarms')")
    page.close()


@pytest.mark.parametrize(("place", "said"), [("#/hubs/nobody", "no such hub"), ("#/hubs/%E0%A4%A", "pattern"),
                                             (f"#/orders/{'0' * 32}", "no such order")])  # fmt: skip
def test_an_address_of_nothing_says_so(site: Site, browser: "Browser", place: str, said: str) -> None:
    desk = Desk(browser, site, 1280)
    desk.go(place, f"main .fault:has-text('{said}')")
    desk.go("#/constructor/x", "h2:has-text('Fleet')")
    desk.page.wait_for_selector("#who:has-text('desk')")
    desk.page.close()


def test_a_focus_outlives_rows_that_come_before_it(site: Site, browser: "Browser") -> None:
    desk = Desk(browser, site, 1280)
    page = desk.page
    desk.go("#/orders", "tbody a")
    oldest = page.locator("tbody a").last
    oldest.focus()
    place, rows = oldest.get_attribute("href"), page.locator("tbody tr").count()
    with site.client("desk") as api:
        order = {"op": "diagnose", "args": {"what": "status"}, "target": {"hub": "SIM-1"}}
        assert api.post("/v1/orders", json=order).status_code == 201
    page.wait_for_function("rows => document.querySelectorAll('tbody tr').length > rows", arg=rows, timeout=20_000)
    assert page.evaluate("document.activeElement.getAttribute('href')") == place
    assert desk.errors == []
    page.close()


def test_an_alarm_is_dismissed_and_a_focus_outlives_the_next_look(site: Site, browser: "Browser") -> None:
    desk = Desk(browser, site, 1280)
    page = desk.page
    desk.go("#/alarms", "tbody button")
    dismiss = page.get_by_role("button", name=re.compile(f"Dismiss limit-opted-out wallbox of {OLD}"))
    dismiss.focus()
    with page.expect_response(lambda answer: "/v1/alarms" in answer.url, timeout=20_000):
        pass
    page.wait_for_function("() => document.activeElement.getAttribute('aria-label')?.includes('wallbox')")
    page.keyboard.press("Enter")
    dismiss.wait_for(state="detached")
    assert page.locator("tbody tr").count() >= 2, "the others stay"
    with site.client("desk") as api:
        assert [row for row in api.get("/v1/audit").json() if row["action"] == "dismiss"]
        assert "limit-opted-out" not in {row["code"] for row in api.get("/v1/alarms").json()}
        assert [hub["hub"] for hub in api.get("/v1/hubs", params={"alarm": "meter-lost"}).json()] == [OLD]
        assert api.post("/v1/hubs/nobody/alarms/dismiss", json={"code": "x"}).status_code == 404
    with site.client("viewer") as viewer:
        assert viewer.post(f"/v1/hubs/{OLD}/alarms/dismiss", json={"code": "meter-lost"}).status_code == 403
    assert 'meterhub_alarms{severity="error",code="meter-lost"} 1' in site.metrics()
    assert desk.errors == []
    page.close()


def test_a_rollout_for_all_waits_for_a_second_person(site: Site, browser: "Browser") -> None:
    desk = Desk(browser, site, 390)
    page = desk.page
    desk.go("#/rollouts", "form.order")
    page.get_by_label("For").select_option("all")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_selector(".facts:has-text('waiting')", timeout=20_000)
    page.get_by_role("button", name="Approve").click()
    page.wait_for_selector(".fault:not(:empty)")
    page.get_by_role("button", name="Withdraw").click()
    page.wait_for_selector(".facts:has-text('withdrawn')")
    assert page.get_by_text("No wave has begun yet.").is_visible()
    page.close()


def test_a_rollout_is_begun_and_stopped(site: Site, browser: "Browser") -> None:
    desk = Desk(browser, site, 390)
    page = desk.page
    desk.go("#/rollouts", "form.order")
    page.get_by_label("For").select_option("hub")
    page.get_by_label("Name").fill(OLD)  # it is not there any more: its wave waits
    page.get_by_role("button", name="Begin").click()
    page.wait_for_selector("text=Wave 1", timeout=20_000)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".facts:has-text('stopped: by desk')")
    page.get_by_role("button", name="Try again and go on").wait_for()
    page.get_by_text("Bring back the hubs that did it").click()
    page.get_by_label("Arguments of before").fill('{"set": {"uplink.pack_interval_s": 60}}')
    page.get_by_role("button", name="Bring back").click()
    page.wait_for_function("old => location.hash !== old", arg=page.evaluate("location.hash"), timeout=20_000)
    assert desk.errors == []
    page.close()


def test_nobody_who_is_not_signed_in_sees_anything(site: Site) -> None:
    for path in ("/v1/alarms", "/v1/rollouts", f"/v1/orders/{'0' * 32}/watts"):
        assert httpx.get(f"http://127.0.0.1:{site.port}{path}").status_code == 401
