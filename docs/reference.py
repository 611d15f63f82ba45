"""Writes ``docs/reference/``: settings, records, HTTP interface and command line, read from the code.

    python -m docs.reference

The same code gives the same files on every machine: no dates, no paths, no names of users, no width of a terminal.
``tests/unit/test_reference.py`` fails where the files differ from the code.
"""

import ast
import inspect
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import typer
from pydantic import BaseModel

from cli.main import app
from contracts import bundle, records, retraining, service, settings
from contracts.base import SCHEMA_VERSION, Record

HERE = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by `python -m docs.reference`: change the code, not this page. -->"
NEED = "needed"
"""Stands where a default would."""

NAMED_PATTERNS = {
    get_args(service.ServiceName)[1].metadata[0].pattern: "name of a service",
    "^[0-9a-f]{16}$": "16 hex digits",
    "^[0-9a-f]{64}$": "64 hex digits",
}
"""What expressions that come often are called."""

Schema = Mapping[str, Any]
Anchors = Callable[[str], str]
"""From the name of a schema to what stands for it."""


# -- what the code says ------------------------------------------------------------------------------------------------


@cache
def _meanings(path: str) -> dict[str, dict[str, str]]:
    """The docstrings under the fields of a file's classes, by class and field; under "" those of its own names."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    found = {"": _under(tree.body)}
    return found | {node.name: _under(node.body) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _under(body: list[ast.stmt]) -> dict[str, str]:
    found = {}
    for node, after in pairwise(body):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = after.value if isinstance(after, ast.Expr) else None
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            found[target.id] = value.value
    return found


def meaning(model: type, field: str) -> str:
    """What the docstring under a field says; empty where there is none."""
    for one in model.__mro__:
        if issubclass(one, BaseModel) and one.__module__.partition(".")[0] in ("contracts", "console"):
            said = _meanings(str(inspect.getsourcefile(one))).get(one.__name__, {}).get(field)
            if said:
                return said
    return ""


def words(text: str | None) -> str:
    """A docstring as one line of Markdown.

    >>> words("Of ``a``, or   b.")
    'Of `a`, or b.'
    """
    return " ".join((text or "").replace("``", "`").split())


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|")


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table, or nothing where it has no rows; columns in which nothing stands are left out."""
    names, found = list(heads), [[cell(one).strip() for one in row] for row in rows]
    kept = [at for at in range(len(names)) if any(row[at] for row in found)]
    if not found:
        return []
    lines = [[names[at] for at in kept], ["---"] * len(kept), *([row[at] for at in kept] for row in found)]
    return [*(re.sub(" +", " ", f"| {' | '.join(line)} |") for line in lines), ""]


def typed(schema: Schema, refer: Anchors = lambda name: name) -> str:  # noqa: PLR0911  (a case a line)
    """A JSON schema in words.

    >>> typed({"type": "integer", "minimum": 1})
    'integer, at least 1'
    >>> typed({"anyOf": [{"type": "string"}, {"type": "null"}]})
    'text or null'
    """
    if "$ref" in schema:
        return refer(schema["$ref"].rpartition("/")[2])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(typed(one, refer) for one in schema[several]))
    if len(schema.get("allOf", ())) == 1:
        return typed(schema["allOf"][0], refer)
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return ", ".join(map(_literal, schema["enum"]))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(typed(one, refer) for one in schema['prefixItems'])}]"
        inner = typed(schema.get("items", {}), refer)
        return f"list of ({inner})" if "," in inner or " or " in inner else f"list of {inner}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"values by name: {typed(values, refer)}" if isinstance(values, Mapping) else "object"
    plain = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}
    if schema.get("format") == "path":
        return "path"
    return ", ".join([plain.get(str(kind), "anything"), *_limits(schema)])


def _limits(schema: Schema) -> Iterator[str]:
    said = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
    }
    limits = {name: schema[name] for name in said if schema.get(name) is not None}
    if limits.keys() >= {"minimum", "maximum"}:
        yield f"{_number(limits.pop('minimum'))} to {_number(limits.pop('maximum'))}"
    for name, limit in limits.items():
        yield "not empty" if name == "minLength" and limit == 1 else said[name].format(_number(limit))
    if "pattern" in schema:
        yield NAMED_PATTERNS.get(schema["pattern"], f"`{schema['pattern']}`")


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value}"


def _literal(value: object) -> str:
    """A value as it is written in JSON and TOML.

    >>> _literal(5.0), _literal("a"), _literal(None)
    ('`5`', '`"a"`', '`null`')
    """
    if isinstance(value, bool) or value is None:
        return f"`{ {True: 'true', False: 'false', None: 'null'}[value] }`".replace("` ", "`").replace(" `", "`")
    if isinstance(value, float):
        return f"`{_number(value)}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value}`"


def _default(schema: Schema, name: str, needed: Iterable[str]) -> str:
    if name in needed:
        return NEED
    value = schema.get("default", schema.get("x-default", ...))
    if value is ... or value in ({}, []):
        return "empty"
    return _literal(value)


def fields(model: type[BaseModel], refer: Anchors) -> list[str]:
    """The fields of a record, as a table."""
    schema = model.model_json_schema()
    needed = schema.get("required", ())
    return table(
        ("field", "type", "default", "meaning"),
        (
            (
                f"`{name}`",
                typed(one, refer),
                "" if set(needed) == set(schema["properties"]) else _default(one, name, needed),
                words(meaning(model, name)),
            )
            for name, one in schema.get("properties", {}).items()
        ),
    )


# -- settings ----------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Everything that can be set."""
    out = [
        "# Settings",
        NOTE,
        "What there is to set, read from the code. Where settings come from, and which source wins: "
        "[README](../../README.md#settings).\n",
        "## The application",
        f"{words(inspect.getdoc(settings.AppSettings))}\n",
    ]
    top = [(name, one) for name, one in settings.AppSettings.model_fields.items() if not _model(one.annotation)]
    out += _options(settings.AppSettings, "", "LOGCANARY_", [name for name, _ in top])
    for name, field in settings.AppSettings.model_fields.items():
        section = _model(field.annotation)
        if section is not None:
            out += [f"### {name}", f"{words(inspect.getdoc(section))}\n"]
            out += _options(section, f"{name}.", f"LOGCANARY_{name}__".upper())
    out += [
        "## A service",
        "A service's own settings: a TOML file that `logcanary settings set SERVICE FILE.toml` puts in force, and that "
        "`inspect`, `parse` and `detect` take with `--settings`. What is left out has its default.\n",
    ]
    inner = {name: _model(one.annotation) for name, one in service.ServiceSettings.model_fields.items()}
    out += _options(service.ServiceSettings, "", None, [name for name, one in inner.items() if one is None])
    for name, found in inner.items():
        if found is not None:
            out += [f"### service: {name}", f"{words(inspect.getdoc(found))}\n"]
            out += _options(found, f"{name}.", None)
    for name, found in (("masks", service.MaskOptions), ("splits", service.SplitOptions)):
        out += [f"### service: {name}", f"{words(inspect.getdoc(found))}\n"]
        out += _options(found, "", None)
    return _page(out)


_LISTED = {"SplitOptions": "splits"}
"""Settings that come as lists, and their section; the others: masks."""


def _model(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _options(
    model: type[BaseModel], prefix: str, environment: str | None, only: Iterable[str] | None = None
) -> list[str]:
    schema = model.model_json_schema()
    needed = schema.get("required", ())
    names = list(schema["properties"]) if only is None else list(only)
    return table(
        ("setting", "environment", "type", "default", "meaning"),
        (
            (
                f"`{prefix}{name}`",
                f"`{environment}{name.upper()}`" if environment else "",
                typed(
                    schema["properties"][name],
                    lambda one: f"[{one}](#service-{_LISTED.get(one, 'masks')})",
                ),
                _default(schema["properties"][name], name, needed),
                words(meaning(model, name)),
            )
            for name in names
        ),
    )


# -- records -----------------------------------------------------------------------------------------------------------


def records_page() -> str:
    """Every record that is written to a topic or beside a bundle."""
    listed = _kept()
    topics = settings.KafkaOptions()
    on = {
        topics.detections: "Detection",
        topics.statistics: "Statistic",
        topics.deadletters: "DeadLetter",
        topics.control: ", ".join(one.__name__ for one in get_args(get_args(records.Control)[0])),
    }
    audit = getattr(topics, "audit", None)
    if audit is not None:
        on[audit] = "Deed"
    out = [
        "# Records",
        NOTE,
        "Every record on LogCanary's topics, and those in the registry, field by field. Who writes what, how long it "
        "is kept and how records are read: [topics.md](../topics.md). All are JSON. Readers ignore fields that they do "
        f"not know. `schema_version` is {SCHEMA_VERSION}. Times that end in `_ms` are milliseconds since 1970 UTC.\n",
    ]
    links = {name: f"[{name}](#{name.lower()})" for name in listed}
    out += table(
        ("topic", "records"),
        ((f"`{topic}`", ", ".join(links[one] for one in names.split(", "))) for topic, names in on.items()),
    )
    for name, model in sorted(listed.items()):
        out += [f"## {name}", f"{words(inspect.getdoc(model))}\n"]
        out += fields(model, lambda one: links.get(one, one) if one != "ServiceSettings" else _SERVICE)
    out += ["## Words", "Kinds of values that have a name in the code.\n"]
    out += table(("name", "meaning"), sorted(_named(records, retraining, bundle, service)))
    return _page(out)


_SERVICE = "[settings of a service](settings.md#a-service)"


def _kept() -> dict[str, type[BaseModel]]:
    """The records that are kept somewhere, by name."""
    return {
        name: one
        for module in (records, retraining, bundle)
        for name, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, Record) and one.__module__ == module.__name__
    }


def _named(*modules: ModuleType) -> Iterator[tuple[str, str]]:
    for module in modules:
        for name, said in _meanings(str(module.__file__))[""].items():
            if not name.isupper():
                yield f"`{name}`", words(said)


# -- HTTP --------------------------------------------------------------------------------------------------------------


def api_page() -> str:
    """The HTTP interface as the console describes it."""
    from console.api import create  # noqa: PLC0415  (fastapi is not part of the core)
    from console.pages import Pages  # noqa: PLC0415
    from console.problems import STATUS  # noqa: PLC0415
    from console.reading import Reading  # noqa: PLC0415
    from console.store import Store  # noqa: PLC0415

    given = settings.AppSettings.model_construct(
        **{
            name: field.get_default(call_default_factory=True)
            for name, field in settings.AppSettings.model_fields.items()
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "console.db")
        made = create(given, Pages(given, store, Reading(given, store)))
        described = made.openapi()
        store.close()
    schemas: dict[str, Any] = described.get("components", {}).get("schemas", {})
    classes = _classes(Record)

    kept = _kept()

    def refer(name: str) -> str:
        if name == "ServiceSettings":
            return _SERVICE
        if name in _LISTED:
            return f"[{name}](settings.md#service-{_LISTED[name]})"
        return f"[{name}]({'records.md' if name in kept else ''}#{name.lower()})"

    out = [
        "# HTTP interface",
        NOTE,
        "What the console answers to programs, read from its own description (`GET /openapi.json`). How it is reached "
        "and what a request has to pass: [console.md](../console.md). Bodies and answers are JSON.\n",
    ]
    calls = [
        (path, verb, one) for path, verbs in described["paths"].items() for verb, one in verbs.items() if verb != "head"
    ]
    out += table(
        ("call", "what"),
        (
            (f"[`{verb.upper()} {path}`](#{anchor_of(f'{verb} {path}')})", words(one.get("description")))
            for path, verb, one in calls
        ),
    )
    for path, verb, one in calls:
        out += [f"## {verb.upper()} {path}", f"{words(one.get('description'))}\n"]
        out += table(
            ("parameter", "in", "type", "default", "meaning"),
            (
                (
                    f"`{given['name']}`",
                    given["in"],
                    typed(given["schema"], refer),
                    NEED if given.get("required") else _default(given["schema"], "", ()),
                    words(given.get("description")),
                )
                for given in one.get("parameters", ())
            ),
        )
        body = one.get("requestBody", {}).get("content", {})
        out += [f"Body: {typed(next(iter(body.values()))['schema'], refer)}.\n"] if body else []
        for status, answer in one["responses"].items():
            if not status.startswith("4"):
                content = next(iter(answer.get("content", {}).values()), {})
                out += [f"Answer {status}: {typed(content.get('schema', {}), refer)}.\n"]
    out += [
        "## Errors",
        "An error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, and a sentence in `detail`. A "
        "request that does not fit what is described here is 422 `invalid request`; what is not there is 404.\n",
    ]
    out += table(
        ("status", "title", "when"),
        sorted((str(status), f"`{title}`", _first(kind)) for kind, (status, title) in STATUS.items()),
    )
    out += ["## Records", "Those that are nowhere but here; the others: [records.md](records.md).\n"]
    for name in sorted(schemas):
        model = classes.get(name.rpartition("__")[2])
        if model is None or name in kept:
            continue
        out += [f"### {name}", f"{words(schemas[name].get('description'))}\n"]
        needed = schemas[name].get("required", ())
        out += table(
            ("field", "type", "default", "meaning"),
            (
                (
                    f"`{field}`",
                    typed(one, refer),
                    _default(one, field, needed),
                    words(meaning(model, field) or one.get("description")),
                )
                for field, one in schemas[name].get("properties", {}).items()
            ),
        )
    return _page(out)


def _first(kind: type) -> str:
    """What a class says it is, up to where it goes on to its fields or its message."""
    return re.split(r"[:;]|\. ", words(inspect.getdoc(kind)))[0].rstrip(".")


def _classes(base: type) -> dict[str, type]:
    found: dict[str, type] = {}
    for one in base.__subclasses__():
        found |= {one.__name__: one} | _classes(one)
    return found


def anchor_of(heading: str) -> str:
    """The anchor that a heading has on the usual pages.

    >>> anchor_of("GET /services/{service}")
    'get-servicesservice'
    """
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


# -- command line ------------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Every verb with its help."""
    root = typer.main.get_command(app)
    found = list(_commands(root, ("logcanary",)))
    out = [
        "# Command line",
        NOTE,
        "Every verb, as `--help` has it. Data goes to standard output, words and progress to standard error. A mistake "
        "is one sentence and exit status 1, or 2 where the line itself is wrong; Ctrl-C is 130.\n",
    ]
    verbs = [(path, one) for path, one in found if not hasattr(one, "commands") or one.invoke_without_command]
    out += table(
        ("command", "what"),
        (
            (f"[`{' '.join(path)}`](#{anchor_of(' '.join(path))})", _paragraphs(one.help)[0][0])
            for path, one in verbs
            if path != ("logcanary",)
        ),
    )
    for path, command in found:
        out += _command(path, command)
    return _page(out)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401  (typer's)
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _commands(inner, (*path, name))


def _paragraphs(text: str | None) -> list[tuple[str, list[str]]]:
    """The paragraphs of a help text, each with the indented lines below its first words."""
    found = []
    for part in inspect.cleandoc((text or "").replace("\b\n", "")).split("\n\n"):
        lines = part.split("\n")
        prose = [line for line in lines if not line.startswith("  ")]
        found.append((words(" ".join(prose)), [line.strip() for line in lines if line.startswith("  ")]))
    return found


def _command(path: tuple[str, ...], command: Any) -> Iterator[str]:  # noqa: ANN401  (typer's own kind)
    yield f"{'#' * min(3, len(path) + 1)} {' '.join(path)}\n"
    for prose, lines in _paragraphs(command.help):
        if prose:
            yield f"{prose}\n"
        if lines:
            is_shell = any(line.startswith("logcanary") for line in lines)
            yield "\n".join([f"```{'sh' if is_shell else 'toml'}", *lines, "```\n"])
    if hasattr(command, "commands") and not command.invoke_without_command and len(path) > 1:
        inner = (name for name, one in command.commands.items() if not one.hidden)
        yield "Verbs: " + ", ".join(f"[`{name}`](#{anchor_of(' '.join((*path, name)))})" for name in inner) + ".\n"
    yield from table(
        ("argument or option", "value", "default", "meaning"),
        (
            (_flags(one), _value(one), _given(one), words(getattr(one, "help", "")))
            for one in command.params
            if not getattr(one, "hidden", False)
        ),
    )


def _flags(given: Any) -> str:  # noqa: ANN401  (typer's own kind)
    if given.param_type_name == "argument":
        return f"`{(given.metavar or given.name).upper()}`"
    return ", ".join(f"`{flag}`" for flag in (*given.opts, *given.secondary_opts))


def _value(given: Any) -> str:  # noqa: ANN401  (typer's own kind)
    if given.param_type_name == "argument":
        return "one or more" if given.nargs == -1 else ""
    if given.is_flag:
        return ""
    kinds = {int: "integer", float: "number", Path: "path"}
    annotation = given.type_descriptor.annotation
    name = kinds.get(next((one for one in (annotation, *get_args(annotation)) if one in kinds), str), "text")
    limits = list(_limits({"minimum": given.min, "maximum": given.max}))
    often = ["repeatable"] if given.multiple else []
    return ", ".join([f"`{given.metavar}`" if given.metavar else name, *limits, *often])


def _given(given: Any) -> str:  # noqa: ANN401  (typer's own kind)
    if given.required:
        return NEED
    value = given.default
    if value in (None, "", False, (), []) or callable(value):
        return ""
    return f"`{str(value).lower() if value is True else _number(value) if isinstance(value, float) else value}`"


# -- the pages ---------------------------------------------------------------------------------------------------------


def _page(lines: Iterable[str]) -> str:
    text = re.sub(r"^(#+ .*|<!--.*-->)\n(?!\n)", r"\1\n\n", "\n".join(lines), flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "records.md": records_page,
    "api.md": api_page,
    "cli.md": cli_page,
}
"""The files of ``docs/reference``, and what writes each."""


def main() -> None:
    """Write them."""
    HERE.mkdir(exist_ok=True)
    for name, write in PAGES.items():
        (HERE / name).write_text(write(), encoding="utf-8")
        sys.stdout.write(f"docs/reference/{name}\n")


if __name__ == "__main__":
    main()
