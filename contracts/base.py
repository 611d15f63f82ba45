"""What all records share: unknown fields are kept out, values never change after construction."""

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
"""Version of the records in this package; raised when a field changes its meaning."""


class Record(BaseModel):
    """An immutable record with a documented JSON form.

    Unknown fields are ignored when reading, so that an older reader survives a newer writer.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")


class Options(BaseModel):
    """A settings section: a misspelt name is an error that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")
