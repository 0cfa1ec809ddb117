"""Knowledge bases made from an entity list or from Wikipedia."""
