"""systemd, as the daemon uses it: units over D-Bus, notifications, socket activation, the journal."""
