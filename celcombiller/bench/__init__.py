"""``celcombiller bench``: the speed of this biller on this machine, compared with yardsticks of the same run."""
