"""Measurements: waportd beside the least that would do the same, in one run. ``make bench`` runs them."""
