"""Who may use the console: tokens, roles, a proxy, sessions, the audit trail; and attacks, each refused."""

import json
import logging
import re
import socket
import threading
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from test_cli import run

from console import serving
from console.access import NO_TOKEN, SESSION_SECONDS, TRIES, Access, AccessError, digest, read_people
from console.api import create
from console.audit import Journal
from console.guard import needed
from console.pages import Pages
from console.store import Store
from console.vitals import Pulse
from contracts.records import Deed
from contracts.settings import WebOptions
from deploy.parts import listens
from tests.unit.test_console import alone, is_problem
from tests.unit.test_console_pages import ALERT, SCRIPT, VERDICT, Reading, Writer, filled, form_of

TOKENS = {"vera": "the viewer's token", "ada": "the engineer's token", "root": "the admin's token"}
ROLES = {"vera": "viewer", "ada": "engineer", "root": "admin"}
AWAY = "http://canary.example:8080"
RETRAIN = "/services/pay/retraining"


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people"
    lines = [f"{name} {ROLES[name]} {digest(token)}" for name, token in TOKENS.items()]
    path.write_text("\n".join(["# who may", *lines, f"bob engineer {NO_TOKEN}"]))
    return path


@pytest.fixture
def site(tmp_path, people, monkeypatch):
    """Makes clients of one console that asks who they are; ``web``: further settings."""
    store = Store(tmp_path / "console.db")
    reading, deeds = Reading(store), []
    monkeypatch.setattr("console.reading.ControlWriter", lambda settings: Writer(reading))

    def make(*, secure=False, address="203.0.113.5", **web):
        settings = alone(tmp_path)
        web = settings.web.model_copy(update={"access_file": str(people), **web})
        settings = settings.model_copy(update={"web": web})
        app = create(settings, Pages(settings, store, reading), deeds.append)
        where = AWAY.replace("http:", "https:") if secure else AWAY
        return TestClient(app, base_url=where, raise_server_exceptions=False, client=(address, 1))

    yield SimpleNamespace(make=make, store=store, reading=reading, deeds=deeds)
    store.close()


def bearer(name):
    return {"authorization": f"Bearer {TOKENS[name]}"}


def signed_in(client, name):
    token = form_of(client, "/ui/sign-in")
    answer = client.post("/ui/sign-in", data={"token": token, "secret": TOKENS[name]}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/alerts")
    return answer


# -- who is known ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/services", "/alerts", "/openapi.json", "/audit", RETRAIN, "/nowhere"])
def test_a_stranger_is_told_nothing(site, path):
    answer = site.make().get(path)
    assert "say who you are" in is_problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_stranger_with_a_browser_is_asked_and_comes_to_what_was_asked_for(site):
    client = site.make()
    asked = client.get("/ui/alerts?state=open", headers={"accept": "text/html"}, follow_redirects=False)
    assert asked.headers["location"] == "/ui/sign-in?next=%2Fui%2Falerts%3Fstate%3Dopen"
    token = form_of(client, asked.headers["location"])
    action = re.search(r'action="(/ui/sign-in[^"]*)"', client.get(asked.headers["location"]).text)[1]
    answer = client.post(action, data={"token": token, "secret": TOKENS["vera"]}, follow_redirects=False)
    assert answer.headers["location"] == "/ui/alerts?state=open"
    assert "vera" in client.get("/ui/alerts").text


@pytest.mark.parametrize("path", ["/healthz", "/static/console.css", "/ui/sign-in"])
def test_what_tells_nothing_is_open(site, path):
    assert site.make().get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "roles"),
    [
        ("GET", "/alerts", "vera ada root"),
        ("GET", "/ui/alerts", "vera ada root"),
        ("POST", "/ui/try", "vera ada root"),
        ("POST", "/ui/sign-out", "vera ada root"),
        ("POST", VERDICT, "ada root"),
        ("DELETE", "/detections/x/verdict", "ada root"),
        ("POST", RETRAIN, "ada root"),
        ("DELETE", f"{RETRAIN}/x", "ada root"),
        ("POST", "/services/pay/models/x/promotion", "ada root"),
        ("POST", "/services/pay/rollback", "ada root"),
        ("POST", "/services/pay/budget", "ada root"),
        ("POST", "/ui/services/pay/retrain", "ada root"),
        ("GET", "/audit", "root"),
        ("GET", "/ui/audit", "root"),
    ],
)
def test_roles_part_those_who_look_from_those_who_change(site, method, path, roles):
    client = site.make()
    for name in TOKENS:
        status = client.request(method, path, headers=bearer(name)).status_code
        assert (status in (401, 403)) == (name not in roles.split()), f"{name}: {status}"


def test_what_changes_something_needs_an_engineer_whatever_its_path():
    assert needed("PUT", "/anything/new") == "engineer"
    assert needed("PUT", "/audit") == "admin"


def test_a_viewer_sees_no_button(site):
    filled(site.store)
    client = site.make()
    signed_in(client, "vera")
    text = client.get(ALERT).text
    assert "came before" in text
    assert "false-positive</button>" not in text
    signed_in(client, "ada")
    assert "false-positive</button>" in client.get(ALERT).text


def test_an_engineer_acts_in_their_own_name_alone(site):
    filled(site.store)
    client = site.make()
    given = client.post(f"/detections/{1:016x}/verdict", json={"value": "expected"}, headers=bearer("ada"))
    assert given.json()["author"] == "ada"
    forged = client.post(
        f"/detections/{1:016x}/verdict", json={"value": "expected", "author": "root"}, headers=bearer("ada")
    )
    assert "as somebody else" in is_problem(forged, 403)
    signed_in(client, "ada")
    page = client.post(VERDICT, data={"token": form_of(client, ALERT), "author": "root", "value": "unsure"})
    assert page.status_code == 403
    said = site.reading.view.verdicts["web"].values()
    assert {one.author for one in said} == {"ada"}


def test_a_session_ends_with_its_time_its_person_and_on_request(people):
    now = [0.0]
    access = Access(WebOptions(access_file=str(people)), lambda: now[0])

    def who(secret):
        found = access.person({}, {"logcanary-session": secret}, "203.0.113.5")
        return found.name if found else None

    first, second = (access.sign_in(TOKENS["ada"], "203.0.113.5") for _ in range(2))
    assert (who(first), who(second), who("x" * 43), who("")) == ("ada", "ada", None, None)
    access.sign_out(first)
    assert (who(first), who(second)) == (None, "ada")
    now[0] = SESSION_SECONDS + 1.0
    assert who(second) is None
    third = access.sign_in(TOKENS["ada"], "203.0.113.5")
    assert who(third) == "ada"
    people.write_text(f"vera viewer {digest(TOKENS['vera'])}")
    assert who(third) is None
    assert access.sign_in(TOKENS["ada"], "203.0.113.5") is None


def test_a_file_that_is_spoilt_meanwhile_lets_nobody_in(site, people):
    client = site.make()
    assert client.get("/alerts", headers=bearer("ada")).status_code == 200
    people.write_text("ada queen 1")
    assert ":1: expected" in is_problem(client.get("/alerts", headers=bearer("ada")), 503)
    assert is_problem(client.get("/alerts", headers=bearer("ada")), 503)
    people.unlink()
    assert "web.access_file" in is_problem(client.get("/alerts", headers=bearer("ada")), 503)


@pytest.mark.parametrize(
    "line", ["ada", "ada engineer", "ada queen " + "0" * 64, "ada viewer 12", "ada viewer " + "G" * 64, "a b c d"]
)
def test_a_line_that_is_none_is_named(tmp_path, line):
    path = tmp_path / "people"
    path.write_text(f"vera viewer {digest('x')}\n{line}\n")
    with pytest.raises(AccessError, match=rf"{path}:2: expected .*viewer, engineer, admin"):
        read_people(path)


def test_a_name_is_there_once(tmp_path):
    path = tmp_path / "people"
    path.write_text(f"ada viewer {digest('x')}\nada admin {digest('y')}\n")
    with pytest.raises(AccessError, match=":2: "):
        read_people(path)


def test_it_does_not_listen_where_others_could_ask_and_nobody_is_known(tmp_path):
    settings = alone(tmp_path)
    settings = settings.model_copy(update={"web": settings.web.model_copy(update={"host": "0.0.0.0"})})
    with pytest.raises(AccessError, match=r"web\.access_file"):
        serving.run(settings, None)
    assert not (tmp_path / "home").exists()


def test_pages_that_nobody_feeds_are_not_served(tmp_path, monkeypatch):
    monkeypatch.setattr(Pulse, "look", lambda self: 1 / 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = alone(tmp_path)
    settings = settings.model_copy(update={"web": settings.web.model_copy(update={"console_port": port})})
    with pytest.raises(ZeroDivisionError):
        serving.run(settings, threading.Event())
    assert not listens(port)


# -- a proxy that knows who asks -------------------------------------------------------------------------------------

PROXY = {"proxy_header": "X-Forwarded-User", "proxy_addresses": "198.51.100.7, 10.1.0.0/16", "access_file": ""}


@pytest.mark.parametrize("address", ["198.51.100.7", "10.1.2.3", "::ffff:10.1.2.3"])
def test_a_trusted_proxy_says_who_asks(site, address, people):
    client = site.make(address=address, **PROXY)
    assert client.get("/alerts", headers={"x-forwarded-user": "zoe"}).status_code == 200
    assert client.get("/alerts").status_code == 401
    assert client.post(RETRAIN, json={}, headers={"x-forwarded-user": "zoe"}).status_code == 403
    client = site.make(address=address, **PROXY | {"access_file": str(people)})
    filled(site.store)
    given = client.post(
        f"/detections/{1:016x}/verdict", json={"value": "expected"}, headers={"x-forwarded-user": "bob"}
    )
    assert given.json()["author"] == "bob"


def test_settings_that_trust_half_a_proxy_or_half_of_tls_are_refused():
    for half in ({"proxy_header": "X-User"}, {"proxy_addresses": "10.0.0.1"}, {"tls_key": "k"}):
        with pytest.raises(ValueError, match="need each other"):
            WebOptions(**half)
    with pytest.raises(ValueError, match="does not appear to be"):
        WebOptions(proxy_header="X-User", proxy_addresses="the proxy")


# -- attacks, as the table in docs/console.md lists them -------------------------------------------------------------


def test_attack_a_forged_user_header(site):
    client = site.make(**PROXY)
    answer = client.get("/alerts", headers={"x-forwarded-user": "root"})
    assert "web.proxy_addresses" in is_problem(answer, 403)
    lying = {"x-forwarded-user": "root", "x-forwarded-for": "198.51.100.7"}
    assert client.get("/alerts", headers=lying).status_code == 403
    without = site.make()  # no proxy is trusted: the header is a word like any other
    assert without.get("/alerts", headers={"x-forwarded-user": "root"}).status_code == 401


def test_attack_a_wrong_role(site):
    client = site.make()
    refused = client.post(RETRAIN, json={"author": "vera"}, headers=bearer("vera"))
    assert "for engineers; vera is viewer" in is_problem(refused, 403)
    assert client.get("/audit", headers=bearer("ada")).status_code == 403
    assert [(deed.who, deed.status) for deed in site.deeds] == [("vera", 403)]


def test_attack_a_stolen_cookie_across_sites(site):
    filled(site.store)
    client = site.make()
    cookie = signed_in(client, "ada").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    token = form_of(client, ALERT)
    said = {"token": token, "value": "confirmed"}
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert client.post(VERDICT, data=said, headers=headers).status_code == 403
    assert site.reading.view.verdicts == {}
    ours = {"origin": AWAY, "sec-fetch-site": "same-origin"}
    assert client.post(VERDICT, data=said, headers=ours, follow_redirects=False).status_code == 303


def test_attack_a_cookie_in_the_open(site):
    client = site.make(secure=True)
    assert "; secure" in signed_in(client, "ada").headers["set-cookie"].lower()
    behind = site.make(address="198.51.100.7", **PROXY)
    told = {"x-forwarded-proto": "https", "x-forwarded-user": "zoe"}
    assert "; secure" in behind.get("/ui/alerts", headers=told).headers["set-cookie"].lower()


def test_attack_a_forged_form(site):
    filled(site.store)
    client = site.make()
    signed_in(client, "ada")
    token = form_of(client, ALERT)
    assert client.post(VERDICT, data={"token": "0" * 64, "value": "confirmed"}).status_code == 403
    client.cookies.delete("logcanary")  # the token of another browser
    assert client.post(VERDICT, data={"token": token, "value": "confirmed"}).status_code == 403
    assert site.reading.view.verdicts == {}


@pytest.mark.parametrize("name", ["token", "access_token", "Authorization", "api_key"])
def test_attack_a_token_in_a_url(site, name):
    answer = site.make().get(f"/alerts?{name}={TOKENS['root']}")
    assert "Authorization: Bearer" in is_problem(answer, 400)
    assert TOKENS["root"] not in answer.text


def test_attack_guessing_tokens(site):
    client = site.make()
    for number in range(TRIES):
        assert client.get("/alerts", headers={"authorization": f"Bearer {number}"}).status_code == 401
    answer = client.get("/alerts", headers={"authorization": "Bearer one more"})
    assert "try again in" in is_problem(answer, 429)
    assert 0 < int(answer.headers["retry-after"]) <= 61
    assert client.get("/alerts", headers=bearer("root")).status_code == 200  # nobody can lock a program out
    page = client.post("/ui/sign-in", data={"token": form_of(client, "/ui/sign-in"), "secret": TOKENS["root"]})
    assert page.status_code == 429
    signed_in(site.make(address="203.0.113.6"), "root")


def test_attack_guessing_from_many_addresses_fills_no_memory(people):
    access = Access(WebOptions(access_file=str(people)))
    for number in range(10_500):
        access.person({"authorization": "Bearer x"}, {}, f"address {number}")
    assert len(access._tries._wrong) <= 10_000


@pytest.mark.parametrize("name", ["%2e%2e", "..%2f..%2fetc%2fpasswd", "-x", "a%00b", "a b", "x" * 300])
def test_attack_a_path_where_a_name_belongs(site, name):
    client = site.make()
    for path in (
        f"/ui/services/{name}",
        f"/ui/services/{name}/runs",
        f"/services/{name}",
        f"/alerts/{name}/{'a' * 16}",
    ):
        assert client.get(path, headers=bearer("root")).status_code in (404, 405, 422), path
    assert client.get(f"/alerts/web/{name}", headers=bearer("root")).status_code in (404, 422)


def test_attack_a_script_in_a_comment(site):
    filled(site.store)
    client = site.make()
    signed_in(client, "ada")
    data = {"token": form_of(client, ALERT), "value": "confirmed", "reason": SCRIPT}
    page = client.post(VERDICT, data=data)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in page.text
    site.store.keep({f"0-{n}": deed for n, deed in enumerate(site.deeds)}, {})
    signed_in(client, "root")
    trail = client.get("/ui/audit").text
    assert "<script>alert" not in trail
    assert "&lt;script&gt;alert" in trail


@pytest.mark.parametrize(
    "following", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/ui/\\x", "/"]
)
def test_attack_a_sign_in_that_leads_elsewhere(site, following):
    client = site.make()
    data = {"token": form_of(client, "/ui/sign-in"), "secret": TOKENS["ada"]}
    answer = client.post("/ui/sign-in", params={"next": following}, data=data, follow_redirects=False)
    assert answer.headers["location"] == "/ui/alerts"


def test_attack_a_token_that_is_looked_for_in_everything_that_is_kept(site, caplog, people):
    caplog.set_level(logging.DEBUG)
    client = site.make()
    answers = [client.get("/ui/alerts", headers=bearer("root")), signed_in(client, "root"), client.get("/ui/audit")]
    answers += [client.post(RETRAIN, json={"author": "eve"}, headers=bearer("root"))]
    kept = caplog.text + "".join(deed.model_dump_json() for deed in site.deeds) + people.read_text()
    kept += "".join(answer.text + str(answer.headers) for answer in answers)
    for secret in TOKENS.values():
        assert secret not in kept


# -- what was done ---------------------------------------------------------------------------------------------------


def test_what_was_done_is_kept_with_who_and_what_came_of_it(site):
    filled(site.store)
    client = site.make()
    signed_in(client, "ada")
    client.get("/ui/alerts")
    client.post(
        VERDICT, data={"token": form_of(client, ALERT), "value": "expected", "scope": "signature", "reason": "1.4"}
    )
    assert [(deed.who, deed.role, deed.what, deed.words, deed.status) for deed in site.deeds] == [
        ("ada", "engineer", "POST /ui/sign-in", "", 303),
        ("ada", "engineer", f"POST {VERDICT}", "expected for this signature: 1.4", 303),
    ]
    assert {deed.address for deed in site.deeds} == {"203.0.113.5"}


def test_the_trail_is_read_page_by_page(site):
    deeds = {
        f"{n % 4}-{n}": Deed(at_ms=n // 3, who="ada", role="admin", address="", what=f"did {n}", status=200)
        for n in range(120)
    }
    site.store.keep(deeds, {("audit", 0): 120})
    site.store.keep(deeds, {("audit", 0): 120})
    client, seen, after = site.make(), [], ""
    while True:
        page = client.get(f"/audit?after={after}", headers=bearer("root")).json()
        seen += [one["what"] for one in page["deeds"]]
        if not (after := page["after"]):
            break
    assert sorted(seen) == sorted(deed.what for deed in deeds.values())
    assert [int(one.split()[1]) // 3 for one in seen] == sorted((n // 3 for n in range(120)), reverse=True)
    assert client.get("/audit?after=x", headers=bearer("root")).status_code == 422
    signed_in(client, "root")
    assert "did 119" in client.get("/ui/audit").text
    assert 'rel="next"' in client.get("/ui/audit").text


def test_where_kafka_is_away_the_trail_is_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    deed = Deed(at_ms=1, who="ada", role="admin", address="", what="POST /x", status=200)
    with Journal(alone(tmp_path)) as journal:
        journal.put(deed)
    assert json.loads(next(one.getMessage() for one in caplog.records if one.name == "logcanary.audit")) == {
        **deed.model_dump()
    }


def test_a_mistake_on_a_page_is_a_page(site):
    client = site.make()
    signed_in(client, "ada")
    answer = client.get("/ui/alerts/web/" + "0" * 16, headers={"accept": "text/html,*/*"})
    assert answer.status_code == 404
    assert "<h1>" in answer.text
    assert "has no alert" in answer.text
    is_problem(client.get("/alerts/web/" + "0" * 16, headers={"accept": "text/html,*/*"}), 404)


# -- logcanary access ------------------------------------------------------------------------------------------------


def test_people_are_named_listed_and_removed(tmp_path):
    file = str(tmp_path / "people")
    made = run("access", "add", "ada", "--role", "engineer", "--file", file)
    token = made.stdout.strip()
    assert len(token) == 43
    assert token not in (tmp_path / "people").read_text()
    assert (tmp_path / "people").stat().st_mode & 0o777 == 0o600
    access = Access(WebOptions(access_file=file))
    who = {"authorization": f"Bearer {token}"}
    assert access.person(who, {}, "203.0.113.5").role == "engineer"
    assert run("access", "add", "vera", "--proxied", "--file", file).exit_code == 0
    rows = json.loads(run("access", "list", "--json", "--file", file).stdout)
    assert rows == [
        {"name": "ada", "role": "engineer", "token": True},
        {"name": "vera", "role": "viewer", "token": False},
    ]
    assert run("access", "remove", "ada", "--file", file).exit_code == 0
    assert access.person(who, {}, "203.0.113.5") is None
    for mistake, told in (
        (("add", "vera", "--file", file), "already"),
        (("add", "a b", "--file", file), "is no name"),
        (("add", "zoe", "--role", "queen", "--file", file), "viewer, engineer, admin"),
        (("remove", "zoe", "--file", file), "names no zoe"),
        (("list",), "web.access_file"),
        (("list", "--file", str(tmp_path / "none")), "cannot be read"),
    ):
        answer = run("access", *mistake)
        assert answer.exit_code != 0
        assert told in " ".join(answer.stderr.split())
