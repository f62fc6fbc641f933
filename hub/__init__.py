"""meterhub: the hub inside a smart electricity meter."""
