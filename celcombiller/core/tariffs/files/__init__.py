"""Files of price lists: our own, and those of other billers, as rates with all that is wrong in them. Pure."""
