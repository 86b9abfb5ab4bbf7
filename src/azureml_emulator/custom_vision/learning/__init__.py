"""How tags are learnt from pictures, and how good what was learnt is; nothing here knows the service."""
