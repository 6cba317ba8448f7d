"""The database: models, migrations and repositories."""
