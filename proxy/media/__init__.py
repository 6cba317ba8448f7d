"""The media engine and the prompts it plays."""
