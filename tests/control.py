"""The control topic of tests without a broker: what is put is known at once."""

from contracts.base import Record
from storage.control import ControlView, key_of


def writer_into(view: ControlView) -> type:
    """A class in the place of ``storage.control.ControlWriter``, whose records go into a view."""

    class Writer:
        def __init__(self, _: object) -> None:
            pass

        def __enter__(self) -> "Writer":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def put(self, *records: Record) -> None:
            for one in records:
                view.apply(key_of(one), one.model_dump_json().encode())  # type: ignore[arg-type]

    return Writer
