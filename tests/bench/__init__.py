"""The figures that the README quotes, and how they are measured: `make bench`."""
