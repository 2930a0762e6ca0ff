"""Trainings: watched, read from their log, shown."""
