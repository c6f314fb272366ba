"""How often each method composes what the prompt asks for, in the world of characters (`research/characters`)."""
