"""SIP without I/O: values, parser, transactions, dialogs and the endpoint (RFC 3261)."""
