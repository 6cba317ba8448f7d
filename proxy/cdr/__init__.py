"""Call detail records: the value, its durable journal, its sinks and export formats."""
