"""waportd gives every user of a web app a WhatsApp Web server of their own, supervised by systemd."""

__version__ = "0.1.0"
