"""Azure ML v2 definitions: read, checked and planned without anything that runs them."""
