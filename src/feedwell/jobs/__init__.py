"""Jobs: long work made of the other rooms' parts. So far one: living in the simulated world, round after round."""
