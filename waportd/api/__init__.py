"""The HTTP API on the daemon's socket: one module per resource."""
