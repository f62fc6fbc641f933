"""The control point's side: a working reference for integrators, and the eyes of the tests and the demonstration."""
