"""What usage costs, and how much usage a balance buys: pure, and in integers. All rounding of the program is here."""
