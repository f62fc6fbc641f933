"""Manufacture: device keys made in hardware, certificates, operators, labels."""
