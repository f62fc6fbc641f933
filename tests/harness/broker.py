"""The broker that tests start: the demonstration's (deploy/local_broker.py)."""

from deploy.local_broker import MOSQUITTO as MOSQUITTO
from deploy.local_broker import Broker as Broker
