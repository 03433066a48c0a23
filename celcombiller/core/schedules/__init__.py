"""Recurring credit to a group: schedules, memberships, runs, and due dates."""
