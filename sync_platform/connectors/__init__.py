"""One connector per system: who we talk to, and how."""
