"""Legs, the call that pairs them, and the gate that asks for the account code."""
