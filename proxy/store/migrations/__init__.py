"""Migrations of the store, run by `proxy.store.database` when it is opened."""
