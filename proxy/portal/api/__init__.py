"""The REST API for programs, ``/api/v1``: tokens instead of sessions, JSON instead of pages."""
