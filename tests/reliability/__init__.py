"""Short forms of the long tests in reliability/, and what proves the promises of docs/reliability.md."""
