"""Many hosts: which host runs which user. A single host loads none of it."""
