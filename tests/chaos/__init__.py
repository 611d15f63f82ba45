"""Scripts that hurt a running stack on purpose, or let it run for long: ``kills`` and ``soak``."""
