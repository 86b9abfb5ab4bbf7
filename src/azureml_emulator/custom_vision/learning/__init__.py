"""How tags are learnt from pictures, and how good the result is; nothing here knows the service."""
