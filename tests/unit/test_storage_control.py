"""The control topic's view: last word wins, tombstones take back, broken records change nothing."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.records import BundlePointer, Marker, Settings, Template, TemplateName, Verdict, VerdictValue
from contracts.service import ServiceSettings
from contracts.settings import AppSettings
from storage.control import AnyControl, ControlView, ControlWriter, decode, key_of, read_control

A, B = "00000000000000aa", "00000000000000bb"


def verdict(
    value: VerdictValue, template: str = A, detection: str = "d1", given_ms: int = 1, service: str = "web"
) -> Verdict:
    return Verdict(
        service=service,
        detection=detection,
        template=template,
        topic=f"logs.{service}",
        partition=0,
        offset=1,
        session="",
        event_ms=0,
        arrival_ms=0,
        value=value,
        reason="because",
        author="me",
        given_ms=given_ms,
    )


def pointer(version: str, service: str = "web") -> BundlePointer:
    return BundlePointer(service=service, version=version, author="me", reason="because", moved_ms=1)


def applied(*records: AnyControl) -> ControlView:
    view = ControlView()
    for record in records:
        assert view.apply(key_of(record), record.model_dump_json().encode()) == record
    return view


def test_each_kind_finds_its_place() -> None:
    view = applied(
        Settings(settings=ServiceSettings(service="web", format="hdfs")),
        pointer("20260101T000000-00000001"),
        Template(service="web", id=A, text="a <*>"),
        TemplateName(service="web", id=A, name="ay"),
        verdict("confirmed"),
        Marker(job="main", submitted_ms=5),
    )
    assert view.settings["web"].format == "hdfs"
    assert view.settings_of("pay") == ServiceSettings(service="pay")
    assert view.pointers["web"].version == "20260101T000000-00000001"
    assert view.templates["web"][A].text == "a <*>"
    assert (view.name_of("web", A), view.name_of("web", B), view.name_of("pay", A)) == ("ay", "", "")
    assert view.verdicts["web"][A, "d1"].value == "confirmed"
    assert view.markers["main"].submitted_ms == 5
    assert view.broken == 0


def test_the_last_word_wins_and_a_tombstone_takes_it_back() -> None:
    view = applied(pointer("one"), pointer("two"), Template(service="web", id=A, text="a"), verdict("expected"))
    view.apply(f"name/web/{A}", TemplateName(service="web", id=A, name="ay").model_dump_json().encode())
    assert view.pointers["web"].version == "two"
    known = (f"template/web/{A}", f"verdict/web/{A}/d1", f"name/web/{A}")
    for key in ("bundle/web", *known, "settings/web", "marker/main", "bundle/none"):
        assert view.apply(key, None) is None
    assert not view.pointers
    assert not view.templates["web"]
    assert not view.verdicts["web"]
    assert not view.name_of("web", A)
    assert view.broken == 0


@given(st.text(max_size=40), st.none() | st.binary(max_size=60))
def test_nothing_that_is_read_stops_the_reader(key: str, value: bytes | None) -> None:
    view = applied(pointer("one"))
    view.apply(key, value)
    assert view.pointers["web"].version == "one" or key == "bundle/web"


def test_a_record_under_a_key_that_is_not_its_own_is_broken() -> None:
    record = pointer("one").model_dump_json().encode()
    with pytest.raises(ValueError, match="belongs under 'bundle/web'"):
        decode("bundle/pay", record)
    view = ControlView()
    assert view.apply("bundle/pay", record) is None
    assert view.broken == 1
    assert not view.pointers


@pytest.mark.stack
def test_what_is_written_is_read_by_others(stack_settings: AppSettings) -> None:
    service = f"test-{secrets.token_hex(4)}"
    settings = Settings(settings=ServiceSettings(service=service, format="syslog"))
    with ControlWriter(stack_settings) as control:
        control.put(settings, pointer("one", service), verdict("expected", service=service))
    view = read_control(stack_settings)
    assert view.settings[service].format == "syslog"
    assert view.pointers[service].version == "one"
    assert view.verdicts[service][A, "d1"].value == "expected"
    with ControlWriter(stack_settings) as control:
        control.delete(
            *(key_of(record) for record in (settings, pointer("", service), verdict("expected", service=service)))
        )
    view = read_control(stack_settings)
    assert service not in view.settings
    assert service not in view.pointers
    assert not view.verdicts.get(service)
