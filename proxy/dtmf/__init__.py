"""From digits to a code entry (RFC 4733, RFC 6086)."""
