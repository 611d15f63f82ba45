"""Set-up, the local stack and its supervisor, images, Prometheus rules."""
