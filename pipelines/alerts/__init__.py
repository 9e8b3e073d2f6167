"""Telling people what is wrong: conditions, one message of all that holds, and the channels that it goes by."""
