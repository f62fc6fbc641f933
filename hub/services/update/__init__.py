"""Firmware updates: asked for by a signed command, downloaded, checked, installed, tried, kept or given back."""
