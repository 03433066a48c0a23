"""``celcombiller bench``: how fast this biller is on this machine, beside yardsticks of the same run."""
