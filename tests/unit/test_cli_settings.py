"""Settings from flags, environment and files; mistakes named by source and field; global flags anywhere."""

import pytest

from cli.configuration import line_of, load_settings, parse_sets, service_settings
from cli.shell import ProblemError, hoist


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No settings but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOGCANARY_HOME", "LOGCANARY_CONFIG", "LOGCANARY_KAFKA", "LOGCANARY_KAFKA__BOOTSTRAP"):
        monkeypatch.setenv(name, "x")  # so that what the code sets is undone too
        monkeypatch.delenv(name)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_defaults():
    assert load_settings(None, ()).kafka.bootstrap == "127.0.0.1:9092"


def test_the_later_source_wins(tmp_path, monkeypatch):
    write(tmp_path / ".logcanary/stack.toml", '[kafka]\nbootstrap = "stack:1"\n[flink]\nrest = "http://stack"\n')
    assert load_settings(None, ()).kafka.bootstrap == "stack:1"
    config = write(tmp_path / "mine.toml", '[kafka]\nbootstrap = "file:1"\n')
    assert load_settings(config, ()).kafka.bootstrap == "file:1"
    monkeypatch.setenv("LOGCANARY_KAFKA__BOOTSTRAP", "environment:1")
    assert load_settings(config, ()).kafka.bootstrap == "environment:1"
    settings = load_settings(config, ["kafka.bootstrap=flag:1", "flink.parallelism=4"])
    assert (settings.kafka.bootstrap, settings.flink.parallelism, settings.flink.rest) == ("flag:1", 4, "http://stack")


def test_a_home_given_as_a_flag_is_where_the_stack_is_looked_for(tmp_path):
    write(tmp_path / "elsewhere/stack.toml", '[kafka]\nbootstrap = "there:1"\n')
    assert load_settings(None, [f"home={tmp_path}/elsewhere"]).kafka.bootstrap == "there:1"


def test_values_may_hold_equals_signs():
    assert parse_sets(["a.b=c=d"]) == {"a": {"b": "c=d"}}


@pytest.mark.parametrize("flag", ["kafka.bootstrap", "=x", "kafka..x=1", ".x=1", "kafka.=1"])
def test_a_flag_that_is_no_setting_shows_how_one_looks(flag):
    with pytest.raises(ProblemError, match=r"section\.field=value"):
        parse_sets([flag])


def test_a_section_is_no_value():
    with pytest.raises(ProblemError, match="already given"):
        parse_sets(["kafka=1", "kafka.bootstrap=2"])


def test_a_misspelt_flag_offers_what_there_is():
    with pytest.raises(ProblemError, match=r"-o: kafka\.bootstrp is not a setting; known here: bootstrap, log_prefix"):
        load_settings(None, ["kafka.bootstrp=h:1"])


def test_a_wrong_value_in_a_file_names_file_and_field(tmp_path):
    config = write(tmp_path / "mine.toml", "[flink]\nparallelism = 0\n")
    with pytest.raises(ProblemError, match=r"mine\.toml, line 2: flink\.parallelism: .*equal to 1, found 0"):
        load_settings(config, ())


def test_a_wrong_value_in_the_stack_file_names_it(tmp_path):
    write(tmp_path / ".logcanary/stack.toml", "[web]\nexporter_port = 70000\n")
    with pytest.raises(ProblemError, match=r"stack\.toml, line 2: web\.exporter_port"):
        load_settings(None, ())


def test_a_wrong_value_in_the_environment_names_the_variable(monkeypatch):
    monkeypatch.setenv("LOGCANARY_FLINK__PARALLELISM", "many")
    with pytest.raises(ProblemError, match=r"environment variable LOGCANARY_FLINK__PARALLELISM: flink\.parallelism"):
        load_settings(None, ())


def test_a_section_in_the_environment_that_is_no_json_says_what_to_write(monkeypatch):
    monkeypatch.setenv("LOGCANARY_KAFKA", "here:1")
    with pytest.raises(ProblemError, match=r'environment: .*"kafka".*LOGCANARY_KAFKA__BOOTSTRAP='):
        load_settings(None, ())


def test_several_mistakes_are_counted():
    with pytest.raises(ProblemError, match=r"\(and 1 more\)"):
        load_settings(None, ["flink.parallelism=0", "flink.buckets=0"])


def test_files_that_are_missing_or_no_toml(tmp_path):
    with pytest.raises(ProblemError, match=r"--config names .*none\.toml, which does not exist"):
        load_settings(tmp_path / "none.toml", ())
    broken = write(tmp_path / "broken.toml", "[kafka\n")
    with pytest.raises(ProblemError, match=r"broken\.toml, line 1 is not valid TOML: expected ']'"):
        load_settings(broken, ())
    with pytest.raises(ProblemError, match="is a folder"):
        load_settings(tmp_path, ())


MISTAKES = [
    # line, what is said of it, text
    (3, r"session\.gap_seconds: .*greater than 0, found -1", "# a comment\n[session]\ngap_seconds = -1\n"),
    (2, r"session\.gap_seconds: .*greater than 0, found -1", "\nsession.gap_seconds = -1"),
    (1, r"session\.gap_seconds: .*greater than 0, found -1", "session = { by = 'auto', gap_seconds = -1 }"),
    (4, r"session\.gap_seconds: .*valid number", "[session]\r\nby = 'auto'\r\n\r\n\"gap_seconds\" = 'x'\r\n"),
    (2, r"session\.gap is not a setting; known here: by,", "[session]\ngap = 1\nby = 'auto'"),
    (2, r"sesion is not a setting; known here: service,", "[session]\n[sesion]\ngap_seconds = 1\n"),
    (5, r"masks\.1\.name: .*pattern", "[[masks]]\nname = 'A'\npattern = 'a'\n[[masks]]\nname = 'b'\npattern = 'b'"),
    (4, r"masks\.1\.pattern is missing", "[[masks]]\nname = 'A'\npattern = 'a'\n[[masks]]\nname = 'B'"),
    (2, r"masks\.1\.name", "#\nmasks = [\n { name = 'A', pattern = 'a' },\n { name = 'b', pattern = 'b' },\n]"),
    (2, r"session\.by: .*'auto'", 'format = \'auto\'\nsession.by = """\na\nb"""\n'),
    (
        2,
        r"is not valid TOML: expected '=' after a key.*found 'gap_seconds -1'",
        "[session]\ngap_seconds -1\nby = 'auto'",
    ),
    (3, r"is not valid TOML: cannot overwrite a value", "[session]\nby = 'auto'\nby = 'window'\n"),
    (2, r"is not valid TOML: .*found 'masks = \['", "#\nmasks = [\n\n"),
]


@pytest.mark.parametrize(("line", "words", "text"), MISTAKES)
def test_a_mistake_in_a_settings_file_is_named_with_its_line(tmp_path, line, words, text):
    file = tmp_path / "pay.toml"
    file.write_bytes(text.encode())
    with pytest.raises(ProblemError, match=rf"pay\.toml, line {line}(:| ).*{words}"):
        service_settings("pay", file)


@pytest.mark.parametrize(
    ("line", "words", "text"),
    [
        (2, r": kafka\.bootstrp is not a setting; known here: bootstrap,", b"[kafka]\nbootstrp = 'h:1'\n"),
        (1, r": kafak is not a setting; known here: home, kafka,", b"[kafak]\nbootstrap = 'h:1'\n"),
        (3, r": kafka: .*KafkaOptions, found 'h:1'", b"\n\nkafka = 'h:1'\n"),
        (3, r" is not valid TOML: expected UTF-8, found byte 0xff", b"# \xc3\xa9\n[kafka]\nbootstrap = '\xff'\n"),
        (1, r" is not valid TOML: ", b"\x00"),
    ],
)
def test_a_mistake_in_the_applications_file_is_named_with_its_line(tmp_path, line, words, text):
    file = tmp_path / "logcanary.toml"
    file.write_bytes(text)
    for config in (file, None):
        with pytest.raises(ProblemError, match=rf"logcanary\.toml, line {line}{words}"):
            load_settings(config, ())


def test_each_of_two_files_is_named_for_its_own_mistake(tmp_path):
    write(tmp_path / "logcanary.toml", "[flink]\nparallelism = 4\n")
    write(tmp_path / ".logcanary/stack.toml", "[web]\n\nexporter_port = 'x'\n")
    with pytest.raises(ProblemError, match=r"stack\.toml, line 3: web\.exporter_port: .*integer"):
        load_settings(None, ())
    write(tmp_path / ".logcanary/stack.toml", "[web\n")
    with pytest.raises(ProblemError, match=r"stack\.toml, line 1 is not valid TOML"):
        load_settings(None, ())


def test_a_field_that_is_nowhere_has_no_line():
    assert line_of("a = 1", ("b",)) is None
    assert line_of("", ()) is None
    assert line_of("[broken", ("broken",)) is None


def test_a_broken_file_found_here_is_named(tmp_path):
    write(tmp_path / "logcanary.toml", "[kafka\n")
    with pytest.raises(ProblemError, match=r"logcanary\.toml, line 1 is not valid TOML"):
        load_settings(None, ())


def test_service_settings_fill_in_the_service(tmp_path):
    file = write(tmp_path / "pay.toml", "budget.false_alarm_rate = 0.001\n")
    settings = service_settings("pay", file)
    assert (settings.service, settings.budget.false_alarm_rate) == ("pay", 0.001)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('service = "shop"', r"service is 'shop'.*says 'pay'"),
        ("budget.rate = 1", r"pay\.toml, line 1: budget\.rate is not a setting; known here: false_alarm_rate"),
        ("colour = 1", r"colour is not a setting; known here: service, format, format_pattern, format_time, masks"),
        ("session.gap_seconds = -1", r"session\.gap_seconds: .*greater than 0, found -1"),
        ('session.by = "user"', r"session\.by: .*'auto', 'identifier' or 'window', found 'user'"),
        ('[[masks]]\nname = "user"\npattern = "u"', r"masks\.0\.name"),
    ],
)
def test_a_mistake_in_service_settings_names_file_and_field(tmp_path, text, words):
    with pytest.raises(ProblemError, match=words):
        service_settings("pay", write(tmp_path / "pay.toml", text))


@pytest.mark.parametrize(
    ("args", "hoisted"),
    [
        (["alerts", "--config", "f", "-o", "a=b"], ["--config", "f", "-o", "a=b", "alerts"]),
        (["alerts", "--config=f", "--set=a=b", "x"], ["--config=f", "--set=a=b", "alerts", "x"]),
        (["detect", "--", "-o", "x"], ["detect", "--", "-o", "x"]),
        (["alerts", "--json"], ["alerts", "--json"]),
        (["alerts", "-o"], ["-o", "alerts"]),
    ],
)
def test_global_flags_may_stand_anywhere(args, hoisted):
    assert hoist(args) == hoisted
