"""Tollgate: a SIP back-to-back user agent that asks for an account code."""
