"""Time: deadlines, periodic work, connections tried again, and steps of the wall clock."""
