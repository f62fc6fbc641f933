"""The control point as a service: book, registry, usage, orders, API and console (README.md)."""
