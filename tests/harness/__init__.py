"""What tests drive the product through: a real mosquitto, a hub in its own process, a bare UDP adapter."""
