"""Where tests run: namespaces with a private systemd, and booted Debian machines."""
