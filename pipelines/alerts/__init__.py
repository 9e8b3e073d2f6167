"""Alerts: the conditions, one message of all that holds, and the channels that send it."""
