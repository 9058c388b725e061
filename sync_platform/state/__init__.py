"""The one PostgreSQL of an installation: server, schema, locks, tokens and call budgets."""
