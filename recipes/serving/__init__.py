"""Translators: exported, and used."""
