"""The command line: every verb of logcanary."""
