"""Every record that crosses a boundary (topic, file, HTTP) and the settings, as pydantic models; no logic."""
