"""Drivers: the ways into the home and out of the box. Each is a thin loop around a device or a socket."""
