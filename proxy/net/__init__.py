"""Sockets: the only room that sends and receives SIP bytes."""
