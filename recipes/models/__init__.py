"""Trained models and their data: read, averaged, loaded, searched with."""
