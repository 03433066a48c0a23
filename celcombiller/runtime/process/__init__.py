"""The process: worker processes, its cores, its open files, and the delay of its reactor."""
