"""The network that tests cut: the demonstration's (deploy/faulty_proxy.py)."""

from deploy.faulty_proxy import Proxy as Proxy
