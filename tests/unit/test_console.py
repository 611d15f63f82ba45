"""What every request has to pass, and how mistakes are told, without a broker."""

import asyncio
import contextlib
import json

import pytest
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect

from console.api import create
from console.guard import MOST_BYTES
from contracts.retraining import RetrainingRequest
from contracts.settings import AppSettings, HdfsOptions, KafkaOptions, WebOptions
from models.promotion import PromotionError, before_this
from storage.files import open_files
from training.runs import Runs


def alone(tmp_path):
    """Settings under which neither Kafka nor the exporter answers, and HDFS is a folder."""
    return AppSettings(
        home=tmp_path / "home",
        hdfs=HdfsOptions(url=tmp_path.as_uri(), root="/logcanary"),
        kafka=KafkaOptions(bootstrap="127.0.0.1:9"),
        web=WebOptions(exporter_port=9),
    )


@pytest.fixture
def settings(tmp_path):
    return alone(tmp_path)


@pytest.fixture
def client(settings):
    with TestClient(create(settings), base_url="http://127.0.0.1:8080", raise_server_exceptions=False) as made:
        yield made


def is_problem(answer, status):
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (answer.status_code, body["status"]) == (status, status)
    assert body["title"]
    return body["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST"])
def test_it_answers_under_the_names_of_loopback(client, host):
    assert client.get("/healthz", headers={"host": host}).json()["status"] == "ok"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost@evil.example"])
def test_a_name_that_someone_else_resolves_to_this_machine_is_refused(client, host):
    assert "127.0.0.1 and localhost" in is_problem(client.get("/healthz", headers={"host": host}), 403)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8080", "http://127.0.0.1:9999"])
def test_another_sites_page_cannot_ask_for_anything(client, origin):
    answer = client.post("/services/pay/retraining", json={"author": "x"}, headers={"origin": origin})
    assert "another site" in is_problem(answer, 403)
    assert client.get("/healthz", headers={"origin": "http://127.0.0.1:8080"}).status_code == 200


def test_a_form_of_another_site_is_no_request(client, settings):
    """What a browser sends across sites without asking first: a form's content types."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        body = json.dumps({"author": "x"})
        answer = client.post("/services/pay/retraining", content=body, headers={"content-type": kind})
        is_problem(answer, 422)
    assert Runs(open_files(settings.hdfs), settings.hdfs.root).newest("pay") == []


def test_large_bodies_are_not_read(client):
    large = b"x" * (MOST_BYTES + 1)
    assert "65,536 bytes" in is_problem(client.post("/services/pay/retraining", content=large), 413)
    lying = client.post("/services/pay/retraining", content=large, headers={"content-length": "-1"})
    is_problem(lying, 413)


def test_a_body_without_an_end_is_not_read_to_its_end(settings):
    given, answered = [], []

    async def receive():
        given.append(b"x" * 10_000)
        return {"type": "http.request", "body": given[-1], "more_body": len(given) < 1_000}

    async def send(message):
        answered.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/services/pay/retraining", "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80)}
    scope |= {"raw_path": b"/services/pay/retraining", "root_path": "", "client": ("127.0.0.1", 1)}
    with contextlib.suppress(ClientDisconnect):
        asyncio.run(create(settings)(scope, receive, send))
    assert len(given) == MOST_BYTES // 10_000 + 1
    assert not answered or answered[0]["status"] >= 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "author"),
        ({"author": ""}, "author"),
        ({"author": "ada", "from_ms": "soon"}, "body.from_ms"),
        ({"author": "ada", "without": [[1]]}, "body.without"),
        ({"author": "ada", "most_lines": -1}, "body.most_lines"),
        ({"author": "a" * 101}, "body.author"),
    ],
)
def test_a_mistake_names_the_field(client, body, field):
    assert is_problem(client.post("/services/pay/retraining", json=body), 422).startswith(field)


@pytest.mark.parametrize("name", ["..", "-x", "a b", "a" * 300, "a%00b", "..%2F..%2Fetc"])
def test_a_path_where_a_name_belongs_is_none(client, name):
    answer = client.post(f"/services/{name}/retraining", json={"author": "ada"})
    assert answer.status_code in (404, 405, 422)
    is_problem(answer, answer.status_code)


def test_what_does_not_answer_is_named(client):
    assert "127.0.0.1:9" in is_problem(client.get("/readyz"), 503)
    assert "127.0.0.1:9" in is_problem(client.get("/services"), 503)


def test_trainings_are_listed_shown_and_cancelled(client, settings):
    runs = Runs(open_files(settings.hdfs), settings.hdfs.root)
    run = runs.begin(RetrainingRequest(service="pay", author="ada", reason="<script>"))
    assert [one["id"] for one in client.get("/services/pay/retraining").json()] == [run.id]
    assert client.get(f"/services/pay/retraining/{run.id}").json()["request"]["reason"] == "<script>"
    busy = client.post("/services/pay/retraining", json={"author": "bob"})
    assert run.id in is_problem(busy, 409)
    assert busy.json()["training"] == run.id
    assert client.delete(f"/services/pay/retraining/{run.id}?author=bob").status_code == 202
    assert runs.cancelled_by(run) == "bob"
    for name in ("20260101T000000-00000000", "x"):
        assert client.get(f"/services/pay/retraining/{name}").status_code == 404


def test_the_interface_describes_itself(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/healthz", "/services", "/services/{service}/retraining"} <= set(paths)
    for path, verbs in paths.items():
        for verb, told in verbs.items():
            assert told["description"], f"{verb} {path}"
    assert client.get("/docs").status_code == 404  # its page would come from another site


def test_there_is_nothing_to_go_back_to():
    with pytest.raises(PromotionError, match="no bundle that was live before"):
        before_this(None, "pay")
