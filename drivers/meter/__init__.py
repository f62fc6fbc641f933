"""The meter's own register port, whatever it speaks, as readings of client `meter`."""
