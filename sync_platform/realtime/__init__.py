"""The warm lane: webhooks come in through the gateway, are stored in the inbox and worked off without a run."""
