"""The engineer's side: the HTTP interface and the pages behind it."""
