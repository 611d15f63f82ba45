"""The pages and their store without a broker: what is shown, what is refused; nothing of a line is a script."""

import html
import re
import statistics
import time
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from console import advice, splitting
from console import lines as lines_module
from console import service_pages as module
from console.api import create
from console.pages import Pages
from console.service_pages import distribution
from console.store import FORMAT, Query, Store, cursor
from console.timeline import AFTER, BEFORE, WIDTH, timeline
from contracts.records import (
    Before,
    BundlePointer,
    Deed,
    Expected,
    Reason,
    ReasonPart,
    Settings,
    Template,
    TemplateName,
    Verdict,
)
from contracts.service import BudgetOptions, ServiceSettings
from contracts.settings import WebOptions
from models.registry import Registry
from parsing.events import Lines, template_hex
from parsing.parser import Parser
from storage.archive import batch_of, write_lines
from storage.control import ControlView, key_of
from storage.files import LocalFiles
from tests.unit.test_console import alone
from tests.unit.test_exporter import T0, detection
from tests.unit.test_gating import NGRAM, made
from tests.unit.test_training import STEPS, orders

SCRIPT = "<script>alert('owned')</script>\"'&"


def found(number=1, signature="a" * 16, service="web", **changes):
    usual = {
        "id": f"{number:016x}",
        "signature": signature,
        "service": service,
        "topic": f"logs.{service}",
        "event_ms": T0 + number * 1000,
        "surprise": 5.0,
        "template": "b" * 16,
        "headline": f"saw {number}",
    }
    return detection(number).model_copy(update=usual | changes)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "console" / "console.db")
    yield made
    made.close()


class Reading:
    """What the pages ask of the reader; what is put is known at once."""

    def __init__(self, store):
        self.view, self.store, self.connected = ControlView(), store, False

    def put(self, record):
        self.view.apply(key_of(record), record.model_dump_json().encode())
        if isinstance(record, Verdict):
            self.store.say([record], self.view)

    def accept(self, record):
        pass


@pytest.fixture
def reading(store):
    return Reading(store)


@pytest.fixture
def client(tmp_path, store, reading, monkeypatch):
    settings = alone(tmp_path)
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    app = create(settings, Pages(settings, store, reading))
    with TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False) as made:
        yield made


class Writer:
    def __init__(self, reading):
        self.put = reading.put

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


# -- the store -------------------------------------------------------------------------------------------------------


def test_an_alert_is_all_findings_of_one_signature(store):
    view = ControlView()
    store.add([found(1), found(2, surprise=9.0, headline="the worst"), found(3, "c" * 16)], {("d", 0): 3}, view)
    store.add([found(4), found(2, surprise=9.0, headline="the worst")], {("d", 0): 5}, view)
    rows = store.alerts(Query())
    assert [(row.signature[0], row.count, row.headline) for row in rows] == [("a", 3, "the worst"), ("c", 1, "saw 3")]
    assert (rows[0].first_ms, rows[0].last_ms) == (T0 + 1000, T0 + 4000)
    assert store.positions() == {("d", 0): 5}
    assert (store.open_count(), sum(store.spark(rows[0]))) == (2, 3)


def test_of_two_copies_the_more_surprising_holds(store):
    view = ControlView()
    for surprise in (5.0, 8.0, 3.0):
        store.add([found(1, surprise=surprise, line=f"{surprise}")], {}, view)
    assert store.detection(f"{1:016x}").line == "8.0"
    assert [row.count for row in store.alerts(Query())] == [1]


def test_pages_go_on_where_the_one_before_ended(store):
    view = ControlView()
    store.add([found(n, f"{n:016x}", service=f"s.{n % 3}", event_ms=T0 + n // 4) for n in range(100)], {}, view)
    seen, after = [], ""
    while rows := store.alerts(Query(after=after), 7):
        seen += [row.signature for row in rows]
        after = cursor(rows[-1])
    assert seen == [row.signature for row in store.alerts(Query(), 1000)]
    assert len(set(seen)) == 100


def test_filters_narrow_the_list(store):
    view = ControlView()
    store.add([found(1, "a" * 16), found(2, "c" * 16, service="pay", headline="Disk of DN7 is full")], {}, view)
    assert [row.service for row in store.alerts(Query(service="pay"))] == ["pay"]
    assert [row.service for row in store.alerts(Query(words="dn7"))] == ["pay"]
    assert store.alerts(Query(words="100%_")) == []
    assert len(store.alerts(Query(state="needs-review"))) == 2
    assert store.alerts(Query(state="confirmed")) == []


def test_a_store_of_another_format_is_made_anew_and_comes_to_the_same(tmp_path):
    path = tmp_path / "console.db"
    records = [found(n, f"{n % 5:016x}") for n in range(50)]
    store = Store(path)
    store.add(records, {("d", 0): 50}, ControlView())
    before = store.alerts(Query())
    store._db().execute(f"PRAGMA user_version = {FORMAT + 1}")
    store.close()
    again = Store(path)
    assert again.positions() == {}
    for start in range(0, 50, 7):
        again.add(records[start : start + 7], {}, ControlView())
    assert again.alerts(Query()) == before
    again.close()


def test_50_000_alerts_are_no_burden_on_any_page(store, client, reading, tmp_path, monkeypatch):
    monkeypatch.setattr(advice, "log_topics", lambda settings: [f"logs.s{n}" for n in range(27)])
    monkeypatch.setattr(lines_module, "read_at", lambda settings, wanted: [])
    row = ("ngram", "ERROR", 3, T0, T0, 5.0, "expected Receiving block, saw disk is full", "open", 0)
    written = found(1).model_dump_json()
    with store._db() as db:
        db.executemany(
            "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((f"s{n % 27}", f"{n:016x}", "a" * 16, *row[:3], T0 + n, T0 + n, *row[5:]) for n in range(50_000)),
        )
        db.executemany(
            "INSERT INTO detections VALUES (?, ?, ?, ?, ?, ?)",
            ((f"{n:016x}", f"s{n % 27}", f"{n:016x}", 5.0, T0 + n, written) for n in range(50_000)),
        )
        deed = Deed(at_ms=1, who="ada", role="admin", address="", what="POST /x", status=200).model_dump_json()
        db.executemany("INSERT INTO deeds VALUES (?, ?, ?)", ((n, "0-0", deed) for n in range(50_000)))
    bundle = live(reading, tmp_path)
    reading.view.pointers["s3"] = pointer(bundle.manifest.version, "s3")
    texts = [f"line {n} by {n + 1} of {n + 2} <*>" for n in range(20_000)]
    catalogue(reading, *(Template(service="s3", id=f"{n:016x}", text=text) for n, text in enumerate(texts)))
    catalogue(reading, *(TemplateName(service="s3", id=f"{n:016x}", name=f"the {n}th") for n in range(20_000)))
    alerts = [f"/ui/alerts{query}" for query in ("", "?service=s3", "?words=disk", "?state=open", "?words=no+such")]
    alert = ["/ui/alerts/s3/" + f"{3:016x}", f"/ui/detections/{3:016x}/lines"]
    lines = [record(n, f"line x7 by x8 of x9 {n}".encode()) for n in range(2_000)]
    monkeypatch.setattr(splitting, "newest_records", lambda settings, topic, count: lines)
    one = f"s3/templates/{7:016x}"
    below = ("s3", "s3/templates", one, f"{one}/split?place=0&values=7", "s3/runs", "s3/settings", "shop/budget")
    services = ["/ui/services", *(f"/ui/services/{name}" for name in below)]
    for address in (*alerts, *alert, *services, "/ui/audit", "/ui/try", "/ui/health"):
        taken = []
        for _ in range(20):
            began = time.process_time()  # the machine may have other work; the page is to be cheap
            assert client.get(address).status_code == 200, address
            taken.append(time.process_time() - began)
        assert statistics.quantiles(taken, n=20, method="inclusive")[18] < 0.2, address


# -- the pages -------------------------------------------------------------------------------------------------------


def filled(store, **changes):
    one = found(
        1,
        before=(Before(template="b" * 16, text="came before"),),
        expected=(Expected(template="c" * 16, text="should have come", probability=0.71),),
        **changes,
    )
    store.add([one], {}, ControlView())
    return one


def form_of(client, page):
    return re.search(r'name="token" value="([0-9a-f]{64})"', client.get(page).text)[1]


ALERT = f"/ui/alerts/web/{'a' * 16}"
VERDICT = f"/ui/detections/{1:016x}/verdict"


def test_the_first_page_is_the_alerts(client, store):
    assert client.get("/").url.path == "/ui/alerts"
    assert "No alert yet" in client.get("/ui/alerts").text
    filled(store, line="the odd line")
    text = client.get("/ui/alerts?service=web&words=saw").text
    assert 'value="saw"' in text
    assert f'href="{ALERT}"' in text
    text = client.get(ALERT).text
    for words in ("the odd line", "came before", "should have come", "0.7100", "partition 0 offset 1"):
        assert words in text
    assert "Nothing fits" in client.get("/ui/alerts?service=pay").text


def test_an_alert_leads_to_the_dashboard_at_its_time(client, store, tmp_path, reading):
    filled(store, detected_ms=T0)
    assert "Dashboard" not in client.get(ALERT).text
    web = alone(tmp_path).web.model_copy(update={"grafana": "http://127.0.0.1:3000/"})
    settings = alone(tmp_path).model_copy(update={"web": web})
    with TestClient(create(settings, Pages(settings, store, reading)), base_url="http://127.0.0.1:8080") as linked:
        text = linked.get(ALERT).text
    around = f"from={T0 - 1_800_000}&amp;to={T0 + 1_800_000}"
    assert f'href="http://127.0.0.1:3000/d/logcanary-service?var-service=web&amp;{around}"' in text
    with pytest.raises(ValueError, match="grafana"):
        WebOptions(grafana="javascript:alert(1)")


def record(offset, value):
    return SimpleNamespace(offset=offset, timestamp=T0 + offset, key=None, value=value, headers=[])


def test_the_lines_around_a_finding_come_from_the_topic_or_the_archive_without_secrets(
    client, store, reading, tmp_path, monkeypatch
):
    filled(store, offset=12, arrival_ms=T0 + 12)
    values = {n: f"line {n} of {SCRIPT}".encode() for n in range(40)} | {11: None, 13: b"\xff password=hunter2"}
    asked = []
    kept = [record(n, value) for n, value in sorted(values.items())]

    def read_at(settings, wanted):
        asked.append({place: list(offsets) for place, offsets in wanted.items()})
        return [one for one in kept if one.offset in range(2, 23)]

    monkeypatch.setattr(lines_module, "read_at", read_at)
    reading.view.settings["web"] = ServiceSettings(service="web", redact=("credentials",))
    near = client.get(f"/detections/{1:016x}/lines").json()
    assert asked == [{("logs.web", 0): list(range(2, 23))}]
    assert (near["source"], [one["offset"] for one in near["lines"]]) == ("topic", list(range(2, 23)))
    assert near["lines"][11]["text"] == "\ufffd password=<redacted:password>"
    page = client.get(f"/ui/detections/{1:016x}/lines").text
    assert "<script>alert" not in page
    assert page.count('class="odd"') == 1
    batch = batch_of("logs.web", 0, kept)
    write_lines(LocalFiles(tmp_path), "/logcanary", "web", [batch])
    kept.clear()
    archived = client.get(f"/detections/{1:016x}/lines").json()
    assert archived == near | {"source": "archive"}
    store.add([found(2, "d" * 16, partition=3)], {}, ControlView())
    assert client.get(f"/detections/{2:016x}/lines").json()["lines"] == []
    assert "Neither" in client.get(f"/ui/detections/{2:016x}/lines").text
    assert client.get("/detections/none/lines").status_code == 404


def test_a_verdict_settles_an_alert_and_can_be_taken_back(client, store, reading):
    filled(store)
    token = form_of(client, ALERT)
    said = {"token": token, "author": "ada", "reason": "new in 1.4", "value": "false-positive", "scope": "signature"}
    answer = client.post(VERDICT, data=said | {"expires": "7d"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, ALERT)
    given = next(iter(reading.view.verdicts["web"].values()))
    assert (given.value, given.author, given.reason, given.scope) == (
        "false-positive",
        "ada",
        "new in 1.4",
        "signature",
    )
    assert given.expires_ms - given.given_ms == 7 * 86_400_000
    assert [row.state for row in store.alerts(Query())] == ["false-positive"]
    assert "new in 1.4" in client.get(ALERT).text
    assert store.open_count() == 0
    undo = client.post(f"/ui/detections/{1:016x}/undo", data={"token": token, "author": "bob"})
    assert undo.status_code == 200
    assert [row.state for row in store.alerts(Query())] == ["open"]
    assert "Taken back by bob" in client.get(ALERT).text
    again = client.post(f"/ui/detections/{1:016x}/undo", data={"token": token, "author": "bob"})
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"token": ""}, 422),
        ({"token": "0" * 64}, 403),
        ({"value": "maybe"}, 422),
        ({"author": ""}, 422),
        ({"scope": "all"}, 422),
        ({"expires": "1y"}, 422),
        ({"value": "confirmed", "expires": "1d"}, 422),
        ({"reason": "x" * 501}, 422),
    ],
)
def test_a_form_that_is_not_right_says_nothing(client, store, reading, changes, status):
    filled(store)
    said = {"token": form_of(client, ALERT), "author": "ada", "value": "confirmed"} | changes
    assert client.post(VERDICT, data=said).status_code == status
    assert not reading.view.verdicts


def test_a_token_is_of_one_browser(client, store, reading):
    filled(store)
    token = form_of(client, ALERT)
    client.cookies.clear()
    assert client.post(VERDICT, data={"token": token, "author": "ada", "value": "confirmed"}).status_code == 403
    client.cookies.set("logcanary", "x" * 43)
    assert client.post(VERDICT, data={"token": token, "author": "ada", "value": "confirmed"}).status_code == 403
    assert not reading.view.verdicts


def test_another_sites_form_is_refused_whatever_it_carries(client, store, reading):
    filled(store)
    said = {"token": form_of(client, ALERT), "author": "ada", "value": "confirmed"}
    answer = client.post(VERDICT, data=said, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    assert not reading.view.verdicts


def test_nothing_of_a_line_is_a_script(client, store, reading):
    one = filled(
        store,
        line=SCRIPT,
        headline=SCRIPT,
        level=SCRIPT,
        session=SCRIPT,
        detector=SCRIPT,
        template_text=SCRIPT,
        bundle=SCRIPT,
    )
    token = form_of(client, ALERT)
    said = {"token": token, "author": SCRIPT, "reason": SCRIPT, "value": "confirmed"}
    assert client.post(VERDICT, data=said).status_code == 200
    assert one.line == SCRIPT
    for page in ("/ui/alerts", ALERT, f"/ui/alerts?words={SCRIPT}&service={SCRIPT}", f"/ui/services/{'web'}"):
        text = client.get(page).text
        assert "<script>alert" not in text
        assert "owned')</script>\"" not in text


def test_the_policy_allows_nothing_from_elsewhere(client):
    for page in ("/ui/alerts", "/static/console.css", "/healthz", "/nowhere"):
        headers = client.get(page).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    text = client.get("/ui/alerts").text
    assert re.findall(r"<script[^>]*>", text) == ['<script src="/static/htmx.min.js" defer>']
    assert not re.search(r"\son[a-z]+=|style=|javascript:|https?://", text)


def test_the_cookie_is_for_this_site_alone_and_for_no_script(client):
    cookie = client.get("/ui/alerts").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


@pytest.mark.parametrize(
    "path", ["/ui/alerts/web/none", "/ui/detections/none/verdict", "/static/../api.py", "/static/%2e%2e/api.py"]
)
def test_what_is_not_there_is_not_shown(client, path):
    assert client.get(path).status_code in (404, 405)


def test_services_are_shown_though_the_exporter_is_down(client, reading, monkeypatch):
    monkeypatch.setattr(advice, "log_topics", lambda settings: ["logs.pay", "logs.web"])
    text = client.get("/ui/services").text
    assert "/ui/services/pay" in text
    assert "the exporter does not answer" in text
    page = client.get("/ui/services/pay").text
    assert "It was never trained." in page
    assert "No bundle is live" in page


def test_a_training_is_asked_for_from_the_page(client, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "start", lambda settings, request: asked.append(request) or SimpleNamespace(id="x"))
    token = form_of(client, "/ui/services/pay")
    answer = client.post("/ui/services/pay/retrain", data={"token": token, "author": "ada", "reason": "release"})
    assert answer.status_code == 200
    assert (asked[0].service, asked[0].author, asked[0].reason) == ("pay", "ada", "release")
    assert client.post("/ui/services/pay/retrain", data={"token": "x", "author": "ada"}).status_code == 403
    assert len(asked) == 1


def test_pasted_lines_are_parsed_and_judged_and_nothing_is_written(client, reading, tmp_path):
    bundle = live(reading, tmp_path)
    lines = b"\n".join(orders(range(800, 802), [STEPS[0], "the roof is on fire above order {}", STEPS[1]])).decode()
    token = form_of(client, "/ui/try?service=shop")
    text = client.post("/ui/try", data={"token": token, "service": "shop", "lines": lines}).text
    assert text.count("never seen before") >= 2
    assert f"judged by {bundle.manifest.version}" in text
    plain = client.post(
        "/ui/try", data={"token": token, "service": "other", "lines": f"hello {SCRIPT}\n\n{SCRIPT}"}
    ).text
    assert "parsed only" in plain
    assert "<script>alert" not in plain
    assert client.post("/ui/try", data={"token": "x", "service": "shop", "lines": "a"}).status_code == 403
    assert client.post("/ui/try", data={"token": token, "service": "../x", "lines": "a"}).status_code == 422
    assert client.post("/ui/try", data={"token": token, "service": "shop", "lines": "a" * 48_001}).status_code == 422


def test_a_budget_is_seen_before_it_is_set(client, store, reading, tmp_path, monkeypatch):
    assert client.get("/ui/services/shop/budget").status_code == 404
    live(reading, tmp_path)
    bar = {"threshold": 0.9, "service": "shop"}
    store.add([found(n, f"{n % 4:016x}", score=0.999 if n % 4 else 0.9999, **bar) for n in range(8)], {}, ControlView())
    store.add([found(9, "e" * 16, score=0.9999, event_ms=T0 - 10**9, **bar)], {}, ControlView())
    store.add([found(10, "f" * 16, score=1.0, kind="trace", **bar), found(11, score=1.0)], {}, ControlView())
    seen = client.get("/services/shop/budget?unit=rate&amount=0.0005").json()
    assert (seen["alerts"], seen["findings"], seen["alerts_now"], seen["findings_now"]) == (1, 2, 4, 8)
    assert client.get("/services/shop/budget").json()["alerts"] == 4
    more = client.get("/services/shop/budget?amount=0.2").json()
    assert (more["at_least"], more["alerts"]) == (True, 4)
    page = client.get("/ui/services/shop/budget?unit=rate&amount=0.0005").text
    assert "With a rate of 0.0005 the last day would have had 1 alerts (2 findings); as it is, 4 (8)" in page
    asked = []
    monkeypatch.setattr(module, "change_budget", lambda *given, **more: asked.append((given[2:], more)) or pointer())
    untold = client.get("/services/shop/budget?amount=12&unit=alerts-per-day")
    assert "give a rate instead" in untold.json()["detail"]  # this bundle's lines have no times
    token = form_of(client, "/ui/services/shop/budget?amount=0.001")
    said = {"token": token, "unit": "alerts-per-day", "amount": "12", "author": "ada", "reason": "too many"}
    assert client.post("/ui/services/shop/budget", data=said, follow_redirects=False).status_code == 303
    assert asked == [(("shop", "ada", "too many"), {"rate": None, "alerts_per_day": 12.0})]
    assert client.get("/ui/services/shop/budget?amount=-1").status_code == 422


def pointer(version="v", service="shop"):
    said = {"service": service, "version": version, "author": "a", "reason": "", "moved_ms": 1}
    return BundlePointer.model_validate(said)


def live(reading, tmp_path):
    bundle, _ = made(orders(range(100, 700)))
    Registry(LocalFiles(tmp_path), "/logcanary").publish(bundle)
    reading.view.pointers["shop"] = pointer(bundle.manifest.version)
    reading.view.settings["shop"] = NGRAM
    return bundle


def test_how_surprising_windows_are_is_drawn_beside_the_threshold(client, store, reading, tmp_path):
    bundle = live(reading, tmp_path)
    store.add([found(n, service="shop", surprise=9.0 if n else 0.5) for n in range(4)], {}, ControlView())
    rows = distribution(bundle.manifest, store.surprises("shop"))
    assert [row[2] for row in rows] == [0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert abs(sum(row[1] for row in rows) - 1) < 1e-6
    bar = bundle.manifest.metrics["threshold_session_nats"]
    words = next(row[0] for row in rows if "session" in row[3])
    low, _, high = words.replace("and more", "to inf").partition(" to ")
    assert float(low) <= bar < float(high)
    page = client.get("/ui/services/shop").text
    assert '<th scope="row">8 and more</th>' in page


def test_the_catalogue_has_examples_and_knows_other_wordings(client, reading):
    for number, (text, alias) in enumerate((("paid <*>", None), (SCRIPT, None), ("payed <*>", f"{0:016x}"))):
        one = Template(service="shop", id=f"{number:016x}", text=text, example=f"{text} 7", alias_of=alias)
        reading.view.apply(key_of(one), one.model_dump_json().encode())
    page = client.get("/ui/services/shop/templates").text
    assert "2 templates" in page
    assert "<script>alert" not in page
    assert "paid &lt;*&gt; 7" in page
    assert client.get("/ui/services/shop/templates?words=PAID").text.count("<tr><td") == 1
    assert [one["text"] for one in client.get("/services/shop/templates").json()] == ["paid <*>", SCRIPT, "payed <*>"]


def test_two_templates_become_one(client, reading, monkeypatch):
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    ids = [f"{number:016x}" for number in (7, 3, 5)]
    for name in ids:
        one = Template(service="shop", id=name, text=f"paid {name}")
        reading.view.apply(key_of(one), one.model_dump_json().encode())
    page = "/ui/services/shop/templates"
    said = {"token": form_of(client, page), "one": ids[0], "other": f" {ids[2]} ", "author": "ada"}
    assert client.post(page, data=said).text.count("<tr><td") == 2
    assert reading.view.resolve("shop", ids[0]) == ids[2]
    over_http = client.post(f"/services/shop/templates/{ids[0]}/merge", json={"other": ids[1], "author": "ada"})
    assert (over_http.json()["id"], over_http.json()["alias_of"]) == (ids[2], ids[1])
    assert {reading.view.resolve("shop", name) for name in ids} == {ids[1]}
    for one, other, words in ((ids[0], ids[1], "one template already"), (ids[0], "f" * 16, "has no template ffff")):
        answer = client.post(f"/services/shop/templates/{one}/merge", json={"other": other, "author": "ada"})
        assert answer.status_code == 409
        assert words in answer.json()["detail"]
    assert client.post(page, data=said | {"token": "x"}).status_code == 403


def catalogue(reading, *templates):
    for one in templates:
        reading.put(one)


def test_a_template_is_named_on_every_page_that_shows_it(client, store, reading, monkeypatch):
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    b, c = "b" * 16, "c" * 16
    catalogue(reading, *(Template(service="web", id=name, text=f"paid {name[0]}") for name in (b, c)))
    part = ReasonPart(template=c, text="paid c", subject="", observed=1, usual=0)
    why = Reason(detector="pca", reason="r", sentence="paid c is odd", unit="events", parts=(part,))
    filled(store, reasons=(why,))
    page = f"/ui/services/web/templates/{b}"
    said = {"token": form_of(client, page), "author": "ada", "name": f"  disk\n{SCRIPT} "}
    assert client.post(f"{page}/name", data=said).status_code == 200
    put = client.put(f"/services/web/templates/{c}/name", json={"name": "second", "author": "ada"})
    assert put.json() == {"type": "name", "service": "web", "id": c, "name": "second"}
    for address, names in (
        ("/ui/alerts", 1),
        (ALERT, 2),
        (page, 1),
        ("/ui/services/web/templates", 1),
        ("/ui/services/web/templates?words=DISK", 1),
    ):
        text = client.get(address).text
        assert text.count("disk &lt;script&gt;alert(&#39;owned&#39;)") >= names, address
        assert "<script>alert" not in text
    alert = client.get(ALERT).text
    assert alert.count('<strong class="named">second</strong>') == 2, "where it was expected, and in the reason"
    assert client.get("/alerts").json()["alerts"][0]["name"] == f"disk {SCRIPT}"
    assert [one["name"] for one in client.get("/services/web/templates").json()] == [f"disk {SCRIPT}", "second"]
    assert client.post(f"{page}/name", data=said | {"name": ""}).status_code == 200
    assert "disk" not in client.get("/ui/alerts").text


def test_a_name_that_is_not_right_changes_nothing(client, reading, monkeypatch):
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    catalogue(reading, Template(service="web", id="b" * 16, text="paid"))
    page = f"/ui/services/web/templates/{'b' * 16}"
    said = {"token": form_of(client, page), "author": "ada", "name": "x"}
    for changes, status in (({"token": "0" * 64}, 403), ({"name": "x" * 81}, 422), ({"author": ""}, 422)):
        assert client.post(f"{page}/name", data=said | changes).status_code == status
    none = client.put(f"/services/web/templates/{'f' * 16}/name", json={"name": "x", "author": "ada"})
    assert (none.status_code, "has no template" in none.json()["detail"]) == (409, True)
    assert client.get(f"/ui/services/web/templates/{'f' * 16}").status_code == 404
    assert not reading.view.names


def test_a_name_outlives_the_merge_of_what_it_names(client, reading, monkeypatch):
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    b, c = "b" * 16, "c" * 16
    catalogue(reading, *(Template(service="web", id=name, text=f"paid {name[0]}") for name in (b, c)))
    client.put(f"/services/web/templates/{c}/name", json={"name": "paid", "author": "ada"})
    assert client.post(f"/services/web/templates/{b}/merge", json={"other": c, "author": "ada"}).status_code == 200
    assert reading.view.name_of("web", b) == reading.view.name_of("web", c) == "paid"
    client.put(f"/services/web/templates/{c}/name", json={"name": "", "author": "ada"})
    client.put(f"/services/web/templates/{c}/name", json={"name": "paid at last", "author": "ada"})
    assert reading.view.names["web"][b] == "paid at last", "the one in use is named"


def timed(offset, seconds, session):
    at = f"2026-05-28 20:0{seconds // 60}:{seconds % 60:02d},000"
    return record(offset, f"{at} INFO a.b.C: {SCRIPT} of {session} took {offset}".encode())


def test_when_the_lines_of_a_session_came_is_drawn(client, store, reading, monkeypatch):
    kept = [timed(n, 2 * n + 60 * (n > 6), "blk_1" if n % 2 == 0 else "blk_2") for n in range(12)]
    monkeypatch.setattr(lines_module, "read_at", lambda settings, wanted: kept)
    filled(store, offset=8, session="blk_1", detector="ngram")
    assert "When they came" not in client.get(ALERT).text, "where Kafka does not answer the page waits for nobody"
    reading.connected = True
    for address in (ALERT, f"/ui/detections/{1:016x}/lines"):
        page = client.get(address).text
        (drawn,) = re.findall(r'<svg width="800".*?</svg>', page, re.DOTALL)
        assert (drawn.count("<circle"), drawn.count('class="it"')) == (5, 1), "the session's lines, and no other's"
        words = "6 lines of session blk_1 from 2026-05-28 20:00:00 to 2026-05-28 20:01:20 UTC"
        assert f'<desc id="axis-words">{words}; this one came 1.1 min after the one before it.</desc>' in drawn
        assert ">1.1 min</text>" in drawn
        assert 'role="img"' in drawn
        assert "style=" not in page
        assert "<script>alert" not in page
    kept[:] = [one for one in kept if one.offset != 8]
    assert "When they came" not in client.get(ALERT).text


def test_a_line_without_session_is_among_those_of_its_partition():
    options = ServiceSettings(service="web")
    kept = [(n, timed(n, n, "x").value.decode()) for n in range(100)]
    drawn = timeline(options, found(50, offset=50, session=""), kept)
    assert [dot.is_it for dot in drawn.dots].index(True) == BEFORE
    assert len(drawn.dots) == BEFORE + AFTER + 1
    assert [dot.x for dot in drawn.dots] == sorted(dot.x for dot in drawn.dots)
    assert (drawn.dots[0].x, drawn.dots[-1].x, drawn.gap[2]) == (0, WIDTH, "1.0 s")
    first = timeline(options, found(0, offset=0, session=""), kept)
    assert first.gap is None
    assert "this one is the first" in first.words
    same = timeline(options, found(0, offset=1, session=""), [(n, kept[0][1]) for n in range(3)])
    assert [dot.x for dot in same.dots] == [0, WIDTH // 2, WIDTH], "in their order"
    assert timeline(options, found(0, offset=0, session=""), kept[:1]) is None
    assert timeline(options, found(0, offset=0, kind="trace"), kept) is None
    assert len(timeline(options, found(0, offset=9, session="w1"), kept).dots) == 9 + AFTER + 1, "no line names it"


DISKS = [f"disk {n} of anna is {('full', 'gone', 'fine', SCRIPT.replace(' ', ''))[n % 4]} now" for n in range(40)]


@pytest.fixture
def disks(client, reading, monkeypatch):
    """A service's topic with lines of a template whose last variable says several things; returns its page."""
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    records = [record(n, line.encode()) for n, line in enumerate([*DISKS, "something else", "x is y"])]
    monkeypatch.setattr(splitting, "newest_records", lambda settings, topic, count: records)
    whole = Template(service="web", id="d" * 16, text="disk <NUM> of <*> is <*> now", example=DISKS[0])
    catalogue(reading, whole, Template(service="web", id="e" * 16, text="something else"))
    return f"/ui/services/web/templates/{'d' * 16}"


def test_a_template_is_told_apart_after_a_look_at_what_goes_where(client, reading, disks):
    page = client.get(f"{disks}/split?place=2").text
    assert "41 of the newest lines" in page  # the catalogue's example counts, too
    assert "<script>alert" not in page
    assert 'name="values" value="gone"' in page
    assert "Tell them apart</button>" not in page, "nothing is chosen yet"
    chosen = client.get(f"{disks}/split?place=2&values=gone&values=full&values=").text
    assert re.findall(r'<code>(disk .*? now)</code></td><td class="number">(\d+)', chosen) == [
        ("disk &lt;NUM&gt; of &lt;*&gt; is gone now", "10"),
        ("disk &lt;NUM&gt; of &lt;*&gt; is full now", "11"),
        ("disk &lt;NUM&gt; of &lt;*&gt; is &lt;*&gt; now", "20"),
    ]
    token = re.search(r'name="token" value="([0-9a-f]{64})"', chosen)[1]
    said = {"token": token, "place": "2", "values": ["gone", "full"], "author": "ada"}
    assert client.post(f"{disks}/split", data=said | {"token": "0" * 64}).status_code == 403
    assert not reading.view.settings
    done = client.post(f"{disks}/split", data=said).text
    assert "by <code>gone</code>, <code>full</code>" in done
    (split,) = reading.view.settings["web"].splits
    assert (split.template, split.place, split.values) == ("d" * 16, 2, ("gone", "full"))
    undone = client.post(f"{disks}/split/undo", data={"token": token, "author": "ada"}).text
    assert "Tell it apart by a value" in undone
    assert reading.view.settings["web"].splits == ()
    assert client.post(f"{disks}/split/undo", data={"token": token, "author": "ada"}).status_code == 409


def test_what_is_seen_before_is_what_the_parser_does(client, reading, disks):
    over_http = f"/services/web/templates/{'d' * 16}/split"
    shown = client.get(f"{over_http}?place=2&values=gone").json()
    assert [(one["variable"], one["distinct"]) for one in shown["places"]] == [("<NUM>", 40), ("<*>", 1), ("<*>", 4)]
    put = client.put(over_http, json={"place": 2, "values": ["gone", "gone"], "author": "ada"})
    assert put.json()["values"] == ["gone"]
    client.put(over_http, json={"place": 2, "values": ["gone"], "author": "ada"})
    parser = Parser(reading.view.settings_of("web"))
    parser.adopt(reading.view.templates["web"].values())
    given = Lines.from_list("web", "logs.web", 0, range(40), [T0] * 40, [line.encode() for line in DISKS])
    ids = [template_hex(one) for one in parser.parse(given).events.template_ids().tolist()]
    (part,) = shown["parts"]
    assert (ids.count(part["template"]), ids.count("d" * 16)) == (part["lines"], shown["rest"] - 1)
    assert client.get(f"{over_http}?place=2&values=gone").json() == shown, "a split that is there is left out of it"
    assert client.request("DELETE", f"{over_http}?author=ada").json()["values"] == ["gone"]


def test_what_cannot_be_told_apart_is_said(client, reading, disks):
    over_http = f"/services/web/templates/{'d' * 16}/split"
    for body, words in (
        ({"place": 3, "values": ["x"]}, "no variable number 3"),
        ({"place": 2, "values": []}, "1 to 50"),
        ({"place": 2, "values": [""]}, "1 to 200 characters"),
        ({"place": 2, "values": ["x" * 201]}, "1 to 200 characters"),
    ):
        answer = client.put(over_http, json=body | {"author": "ada"})
        assert (answer.status_code, words in answer.json()["detail"]) == (409, True), body
    assert client.put(over_http, json={"place": -1, "values": ["x"], "author": "ada"}).status_code == 422
    assert client.get(f"/ui/services/web/templates/{'f' * 16}/split").status_code == 404
    assert client.get(f"{disks}/split?place=9").status_code == 200
    assert "no variable place" in client.get(f"/ui/services/web/templates/{'e' * 16}/split").text
    assert not reading.view.settings


def test_bundles_are_listed_and_a_damaged_one_is_told(client, reading, tmp_path, monkeypatch):
    bundle, _ = made(orders(range(100, 400)))
    files = LocalFiles(tmp_path)
    registry = Registry(files, "/logcanary")
    version = registry.publish(bundle)
    text = client.get("/ui/services/shop").text
    assert version in text
    assert "Make live" in text
    path = f"{registry.folder('shop', version)}/manifest.json"
    files.delete(path)
    files.write(path, b"{")
    assert "is damaged" in client.get("/ui/services/shop").text


def test_findings_an_hour_are_drawn_by_service(client, store):
    store.add([found(n, service="web", event_ms=T0 + (n % 3) * 3_600_000) for n in range(9)], {}, ControlView())
    assert store.hours() == [("web", [0] * 21 + [3, 3, 3])]
    assert 'aria-label="web: 9 findings, most in an hour 3"' in client.get("/ui/alerts").text


def test_bad_cursors_are_told(client, store):
    filled(store)
    for after in ("x", "1.2", "a.b.c.d", "1.x.web.aaa"):
        assert client.get(f"/ui/alerts?after={after}").status_code == 422


# -- the same over HTTP ----------------------------------------------------------------------------------------------


def test_alerts_are_listed_page_by_page(client, store):
    store.add([found(n, f"{n:016x}", event_ms=T0 + n) for n in range(120)], {}, ControlView())
    seen, after = [], ""
    while True:
        page = client.get(f"/alerts?after={after}").json()
        seen += [one["signature"] for one in page["alerts"]]
        if not (after := page["after"]):
            break
    assert seen == [f"{n:016x}" for n in reversed(range(120))]
    assert client.get("/alerts?after=x").status_code == 422


def test_a_verdict_is_said_and_undone_over_http(client, store, reading):
    filled(store, line="the odd line")
    path = f"/detections/{1:016x}/verdict"
    given = client.post(
        path, json={"value": "expected", "author": "ada", "scope": "signature", "lasts_ms": 1000}
    ).json()
    assert (given["value"], given["scope"], given["expires_ms"] - given["given_ms"]) == ("expected", "signature", 1000)
    known = client.get(f"/alerts/web/{'a' * 16}").json()
    assert (known["count"], known["newest"]["line"], known["said"][0]["author"]) == (1, "the odd line", "ada")
    assert client.delete(f"{path}?author=bob").json()["undone_by"] == "bob"
    assert client.delete(f"{path}?author=bob").status_code == 409
    assert client.post("/detections/0/verdict", json={"value": "confirmed", "author": "ada"}).status_code == 404
    wrong = client.post(path, json={"value": "confirmed", "author": "ada", "lasts_ms": 5})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    assert client.get("/alerts/web/none").status_code == 404


@pytest.fixture
def settings_page(client, reading, monkeypatch):
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))
    reading.put(Settings(settings=ServiceSettings(service="web", budget=BudgetOptions(false_alarm_rate=0.001))))
    return "/ui/services/web/settings"


def test_settings_are_looked_at_before_they_are_set(client, reading, settings_page):
    before = reading.view.settings_of("web")
    assert "false_alarm_rate = 0.001" in client.get(settings_page).text
    text = "session.by = \"identifier\"\nsession.pattern = '<script>alert(1)</script> (\\d+)'\n"
    form = {"token": form_of(client, settings_page), "author": "ada", "settings": text}
    looked = client.post(settings_page, data=form | {"do": "look"}).text
    for name in ("session.by", "session.pattern", "budget.false_alarm_rate"):
        assert f'<th scope="row">{name}</th>' in looked
    assert "<script>alert" not in looked
    assert reading.view.settings_of("web") == before, "a look sets nothing"
    assert client.post(settings_page, data=form | {"do": "set"}, follow_redirects=False).status_code == 303
    now = reading.view.settings_of("web")
    assert (now.session.by, now.budget) == ("identifier", BudgetOptions())
    assert "Nothing.</p>" in client.post(settings_page, data=form | {"do": "look"}).text
    again = client.get(settings_page).text
    assert "&lt;script&gt;" in again


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("budget = ", "not TOML"),
        ("budget.false_alarm_rate = 7", "budget.false_alarm_rate: input should be less than"),
        ("budgte.x = 1", "budgte is not a setting"),
        ('service = "pay"', "leave it out"),
        ('session.by = "identifier"\nsession.pattern = "("', "session.pattern"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_where_they_were_written(client, reading, settings_page, text, words):
    before = reading.view.settings_of("web")
    form = {"token": form_of(client, settings_page), "author": "ada", "settings": text, "do": "set"}
    answer = client.post(settings_page, data=form)
    assert answer.status_code == 422
    assert words in html.unescape(answer.text)
    assert html.escape(text.split("=")[0].strip()) in answer.text, "what was written is still there"
    assert reading.view.settings_of("web") == before


def test_settings_over_http(client, reading, settings_page):
    assert client.get("/services/web/settings").json()["budget"]["false_alarm_rate"] == 0.001
    body = {"author": "ada", "settings": {"detector": {"kind": "ngram"}}}
    changed = client.put("/services/web/settings", json=body).json()
    assert [one["setting"] for one in changed] == ["budget.false_alarm_rate", "detector.kind"]
    assert reading.view.settings_of("web").detector.kind == "ngram"
    refused = client.put("/services/web/settings", json={"settings": {"detector": {"kind": "oracle"}}})
    assert refused.status_code == 422
    assert "detector.kind" in refused.json()["detail"]
